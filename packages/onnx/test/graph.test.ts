import { describe, expect, test } from 'vitest';
import {
  buildModel,
  checkModel,
  cloneModel,
  decodeModel,
  encodeModel,
  floats,
  type Graph,
  integers,
  type NewGraph,
  type NewNode,
  type Node,
  tensorFromFloats,
  tensorFromInts,
  tensorInfo,
} from '../src/index.ts';
import { expectCode, field, int, model, node, output, reluModel, tensor } from './raw.ts';

const float = (name: string) => tensorInfo(name, 'float32', [1]);

function graphOf(nodes: readonly NewNode[], parts: Partial<NewGraph> & { irVersion?: number } = {}): Graph {
  const { irVersion, ...graph } = parts;
  return buildModel({ opset: 17, irVersion, inputs: [float('x')], outputs: [float('y')], nodes, ...graph }).graph;
}

const op = (
  opType: string,
  inputs: readonly string[],
  outputs: readonly string[],
  attributes?: NewNode['attributes'],
) => ({
  opType,
  inputs,
  outputs,
  attributes,
});

/** Each node as one line. */
const lines = (graph: Graph) => [...graph.walk()].map(line);
const line = ({ opType, inputs, outputs }: Node) => `${opType}(${inputs.join(', ')}) → ${outputs.join(', ')}`;
/** The same of what would be written. */
const written = (graph: Graph) => {
  const again = decodeModel(encodeModel(graph.model));
  checkModel(again);
  return lines(again.graph);
};

/** y = If(x) { Add(h, w) } else { Neg(h) }, which both read `h` and `w` from outside. */
const captured: NewNode = op('If', ['c'], ['y'], {
  then_branch: { graph: { inputs: [], outputs: [float('t')], nodes: [op('Add', ['h', 'w'], ['t'])] } },
  else_branch: { graph: { inputs: [], outputs: [float('e')], nodes: [op('Neg', ['h'], ['e'])] } },
});
const withBodies = () =>
  graphOf([op('Relu', ['x'], ['h']), captured], {
    inputs: [float('x'), tensorInfo('c', 'bool', [])],
    initializers: { w: tensorFromFloats([1], [2]) },
  });

describe('finding', () => {
  test('who makes and who reads a value, bodies included', () => {
    const graph = withBodies();
    expect(graph.producer('h')?.opType).toBe('Relu');
    expect(graph.producer('t')).toBeUndefined();
    expect(graph.consumers('h').map(line)).toEqual(['Add(h, w) → t', 'Neg(h) → e']);
    expect(graph.consumers('w').map(line)).toEqual(['Add(h, w) → t']);
    expect(graph.consumers('y')).toEqual([]);
    expect([graph.isInput('x'), graph.isInput('h'), graph.isOutput('y')]).toEqual([true, false, true]);
  });

  test('a body that has a value of that name reads its own', () => {
    const inner = op('If', ['c'], ['y'], {
      then_branch: {
        graph: { inputs: [], outputs: [float('t')], nodes: [op('Neg', ['x'], ['h']), op('Abs', ['h'], ['t'])] },
      },
    });
    const graph = graphOf([op('Relu', ['x'], ['h']), op('Exp', ['h'], ['z']), inner]);
    expect(graph.consumers('h').map(line)).toEqual(['Exp(h) → z']);
  });

  test('walk: depth first, by operator and domain, past what is removed meanwhile', () => {
    const graph = withBodies();
    expect(lines(graph)).toEqual(['Relu(x) → h', 'If(c) → y', 'Add(h, w) → t', 'Neg(h) → e']);
    expect([...graph.walk({ opType: 'Neg' })].length).toBe(1);
    expect([...graph.walk({ domain: 'com.microsoft' })]).toEqual([]);
    const seen: string[] = [];
    for (const each of graph.walk()) {
      seen.push(each.opType);
      if (each.opType === 'Relu') for (const other of graph.nodes) graph.removeNode(other);
    }
    expect(seen).toEqual(['Relu']);
  });

  test('constants: initializers, every form of Constant, through Identity and outwards', () => {
    const body = {
      inputs: [],
      outputs: [float('t')],
      nodes: [op('Identity', ['w2'], ['v']), op('Relu', ['v'], ['t'])],
    };
    const graph = graphOf(
      [
        op('Identity', ['w'], ['w2']),
        op('Constant', [], ['a'], { value: { tensor: tensorFromInts('int64', [2], [3, 4]) } }),
        op('Constant', [], ['b'], { value_float: { float: 0.5 } }),
        op('Constant', [], ['c'], { value_floats: { floats: [1, 2] } }),
        op('Constant', [], ['d'], { value_int: { int: -7 } }),
        op('Constant', [], ['e'], { value_ints: { ints: [1, 2, 3n] } }),
        op('Constant', [], ['s'], { value_string: { string: 'text' } }),
        op('If', ['x'], ['y'], { then_branch: { graph: body } }),
      ],
      { initializers: { w: tensorFromFloats([1], [2]) } },
    );
    const values = (name: string) => {
      const found = graph.constant(name);
      return found && { dims: found.dims, values: [...floats(found)] };
    };
    expect(values('w2')).toEqual({ dims: [1], values: [2] });
    expect(values('a')).toEqual({ dims: [2], values: [3, 4] });
    expect(values('b')).toEqual({ dims: [], values: [0.5] });
    expect(values('c')).toEqual({ dims: [2], values: [1, 2] });
    expect(values('d')).toEqual({ dims: [], values: [-7] });
    expect(values('e')).toEqual({ dims: [3], values: [1, 2, 3] });
    for (const name of ['s', 'x', 'y', 'nothing', '']) expect(graph.constant(name)).toBeUndefined();
    const inner = graph.nodes.at(-1)?.subgraphs[0];
    expect(inner?.constant('v')?.dims).toEqual([1]);
  });

  test('#18 an input of its name makes an initializer a default, from IR version 4 on', () => {
    const parts = { inputs: [float('x'), float('w')], initializers: { w: tensorFromFloats([1], [2]) } };
    expect(graphOf([op('Add', ['x', 'w'], ['y'])], parts).constant('w')).toBeUndefined();
    expect(graphOf([op('Add', ['x', 'w'], ['y'])], { ...parts, irVersion: 3 }).constant('w')?.dims).toEqual([1]);
  });

  test('attributes by kind', () => {
    const graph = graphOf([
      op('Custom', ['x'], ['y'], {
        i: { int: 2n ** 60n },
        f: { float: 0.5 },
        s: { string: 'ü' },
        is: { ints: [1, -1] },
        ss: { strings: ['a', ''] },
      }),
    ]);
    const [custom] = graph.nodes;
    if (custom === undefined) throw new Error('no node');
    expect(custom.attributes.get('i')).toEqual({ kind: 'int', value: 2n ** 60n });
    expectCode(() => custom.int('i', 0), 'onnx/attribute', /too large/);
    expectCode(() => custom.float('s', 0), 'onnx/attribute', /"s" is string, not float/);
    expect([custom.float('f', 1), custom.string('s', ''), custom.ints('is', []), custom.int('none', 9)]).toEqual([
      0.5,
      'ü',
      [1, -1],
      9,
    ]);
    expect(custom.attributes.get('ss')).toEqual({ kind: 'strings', value: ['a', ''] });
  });
});

describe('editing', () => {
  test('nodes are put where they are told, named and unique', () => {
    const graph = graphOf([op('Relu', ['x'], ['h']), op('Neg', ['h'], ['y'])]);
    const [, neg] = graph.nodes;
    const added = graph.addNode(op('Abs', ['h'], ['h2']), { before: neg });
    neg?.setInput(0, 'h2');
    expect(added.name).toBe('Abs');
    expect(graph.addNode(op('Abs', ['h'], ['h3'])).name).toBe('Abs_1');
    graph.removeDead();
    expect(written(graph)).toEqual(['Relu(x) → h', 'Abs(h) → h2', 'Neg(h2) → y']);
    expect(graph.consumers('h').map(line)).toEqual(['Abs(h) → h2']);
    expect(graph.uniqueName('h2')).not.toBe(graph.uniqueName('h2'));
  });

  test('uniqueName knows every name of the model, bodies and dangling ones included', () => {
    const graph = withBodies();
    const taken = ['x', 'c', 'y', 'h', 'w', 't', 'e'];
    for (const name of taken) expect(taken).not.toContain(graph.uniqueName(name));
    graph.addNode(op('Neg', ['dangling'], ['n']));
    expect(graph.uniqueName('dangling')).toBe('dangling_1');
    expect(graphOf([op('Add', ['x', 'dangling'], ['y'])]).uniqueName('dangling')).toBe('dangling_1');
    expect(graph.uniqueName('fresh')).toBe('fresh');
  });

  test('attributes are set, replaced and taken away', () => {
    const graph = graphOf([op('Elu', ['x'], ['y'], { alpha: { float: 2 }, note: { string: 'a' } })]);
    const [elu] = graph.nodes;
    elu?.setAttribute('alpha', { float: 3 });
    elu?.setAttribute('note', undefined);
    elu?.setAttribute('more', { ints: [] });
    const [again] = decodeModel(encodeModel(graph.model)).graph.nodes;
    expect([...(again?.attributes.keys() ?? [])].toSorted()).toEqual(['alpha', 'more']);
    expect(again?.float('alpha', 0)).toBe(3);
  });

  test('optional inputs can be reached past the end', () => {
    const graph = graphOf([op('Clip', ['x'], ['y'])]);
    graph.nodes[0]?.setInput(2, 'x');
    expect(written(graph)).toEqual(['Clip(x, , x) → y']);
  });

  test('initializers are added, replaced and removed', () => {
    const graph = graphOf([op('Add', ['x', 'w'], ['y'])], {
      initializers: { w: tensorFromFloats([1], [2]), v: tensorFromFloats([1], [5]) },
    });
    graph.addInitializer('w', tensorFromInts('int64', [2], [7, 8]));
    graph.removeInitializer('v');
    const again = decodeModel(encodeModel(graph.model)).graph;
    expect([...again.initializers.keys()]).toEqual(['w']);
    const w = again.constant('w');
    expect(w && integers(w)).toEqual([7, 8]);
    expectCode(() => graph.addInitializer('y', tensorFromFloats([1], [2])), 'onnx/duplicate');
  });

  test('inputs and outputs', () => {
    const graph = graphOf([op('Relu', ['x'], ['y'])]);
    graph.addNode(op('Neg', ['y'], ['z']));
    graph.setOutputs([...graph.outputs, { name: 'z', type: { dtype: 'float32', dims: ['batch', undefined, 3] } }]);
    graph.setInputs([tensorInfo('x', 'float32', [4])]);
    const again = decodeModel(encodeModel(graph.model)).graph;
    expect(again.outputs).toEqual([float('y'), tensorInfo('z', 'float32', ['batch', undefined, 3])]);
    expect(again.inputs).toEqual([tensorInfo('x', 'float32', [4])]);
  });

  test('what the file says of a value that is made anew is dropped', () => {
    const info = (name: string) => field(13, field(1, name), field(2, field(1, int(1, 1))));
    const graph = decodeModel(reluModel(info('h'), info('g'))).graph;
    graph.addNode(op('Cast', ['y'], ['h'], { to: { int: 7 } }));
    expect(graph.valueInfos.map(({ name }) => name)).toEqual(['g']);
    expect(decodeModel(encodeModel(graph.model)).graph.valueInfos.map(({ name }) => name)).toEqual(['g']);
  });

  test('a clone is edited by itself', () => {
    const original = withBodies().model;
    const before = Buffer.from(encodeModel(original));
    const clone = cloneModel(original);
    for (const each of clone.graph.walk()) each.setOutput(0, `${each.outputs[0]}_renamed`);
    clone.graph.removeInitializer('w');
    clone.setOpset('', 18);
    expect(Buffer.from(encodeModel(original)).equals(before)).toBe(true);
    expect(lines(original.graph)[0]).toBe('Relu(x) → h');
    // A clone of a clone goes on from its edits.
    expect(lines(cloneModel(clone).graph)).toEqual(lines(clone.graph));
    expect(Buffer.from(encodeModel(cloneModel(clone))).equals(encodeModel(clone))).toBe(true);
  });
});

describe('#25 names that bodies capture', () => {
  test('are replaced in them', () => {
    const graph = withBodies();
    const [, branch] = graph.nodes;
    graph.addNode(op('Abs', ['x'], ['g']), { before: branch });
    graph.replaceUses('h', 'g');
    expect(graph.consumers('h')).toEqual([]);
    expect(written(graph)).toEqual(['Relu(x) → h', 'Abs(x) → g', 'If(c) → y', 'Add(g, w) → t', 'Neg(g) → e']);
  });

  test('are renamed with the value that takes an output name', () => {
    const graph = graphOf([op('Relu', ['x'], ['h']), captured, op('Identity', ['h'], ['z'])], {
      inputs: [float('x'), tensorInfo('c', 'bool', [])],
      outputs: [float('y'), float('z')],
      initializers: { w: tensorFromFloats([1], [2]) },
    });
    const [, , identity] = graph.nodes;
    if (identity !== undefined) graph.bypass(identity);
    expect(written(graph)).toEqual(['Relu(x) → z', 'If(c) → y', 'Add(z, w) → t', 'Neg(z) → e']);
  });

  test('are not caught by a body that has a value of the new name', () => {
    const body = { inputs: [], outputs: [float('t')], nodes: [op('Neg', ['x'], ['g']), op('Add', ['h', 'g'], ['t'])] };
    const graph = graphOf([op('Relu', ['x'], ['h']), op('If', ['c'], ['y'], { then_branch: { graph: body } })], {
      inputs: [float('x'), tensorInfo('c', 'bool', [])],
    });
    const [, branch] = graph.nodes;
    graph.addNode(op('Abs', ['x'], ['g']), { before: branch });
    graph.replaceUses('h', 'g');
    expect(written(graph)).toEqual(['Relu(x) → h', 'Abs(x) → g', 'If(c) → y', 'Neg(x) → g_1', 'Add(g, g_1) → t']);
  });

  test('keep what makes them alive', () => {
    const graph = withBodies();
    graph.addNode(op('Exp', ['x'], ['dead']));
    graph.addInitializer('unused', tensorFromFloats([1], [0]));
    expect(graph.removeDead()).toBe(1);
    expect([...graph.initializers.keys()]).toEqual(['w']);
    expect(written(graph)).toEqual(['Relu(x) → h', 'If(c) → y', 'Add(h, w) → t', 'Neg(h) → e']);
  });

  test('a body that puts an outer value out', () => {
    const body = { inputs: [], outputs: [float('h')], nodes: [] };
    const graph = graphOf([op('Relu', ['x'], ['h']), op('If', ['c'], ['y'], { then_branch: { graph: body } })], {
      inputs: [float('x'), tensorInfo('c', 'bool', [])],
    });
    graph.replaceUses('h', 'x');
    expect(graph.nodes[1]?.subgraphs[0]?.outputs[0]?.name).toBe('x');
    expect(graph.removeDead()).toBe(1);
    expect(written(graph)).toEqual(['If(c) → y']);
  });
});

describe('bypass and replaceUses keep the graph’s own names', () => {
  test('in the middle', () => {
    const graph = graphOf([op('Relu', ['x'], ['a']), op('Identity', ['a'], ['b']), op('Neg', ['b'], ['y'])]);
    const [, identity] = graph.nodes;
    if (identity !== undefined) graph.bypass(identity);
    expect(written(graph)).toEqual(['Relu(x) → a', 'Neg(a) → y']);
  });

  test('at an output: what comes before takes its name, for other readers too', () => {
    const graph = graphOf([op('Relu', ['x'], ['a']), op('Neg', ['a'], ['z']), op('Identity', ['a'], ['y'])], {
      outputs: [float('y'), float('z')],
    });
    const [, , identity] = graph.nodes;
    if (identity === undefined) throw new Error('no node');
    expect(graph.joinsInputToOutput(identity)).toBe(false);
    graph.bypass(identity);
    expect(written(graph)).toEqual(['Relu(x) → y', 'Neg(y) → z']);
  });

  test.each([
    ['an input', 'x', {}],
    ['an initializer', 'w', { initializers: { w: tensorFromFloats([1], [2]) } }],
  ])('between %s and an output it is refused', (_, name, parts) => {
    const graph = graphOf([op('Identity', [name], ['y'])], parts);
    const [identity] = graph.nodes;
    if (identity === undefined) throw new Error('no node');
    expect(graph.joinsInputToOutput(identity)).toBe(true);
    expectCode(() => graph.bypass(identity), 'onnx/bypass', /Identity "y"/);
    expect(written(graph)).toEqual([`Identity(${name}) → y`]);
  });

  test('between two outputs it is refused, and of two inputs', () => {
    const graph = graphOf([op('Relu', ['x'], ['z']), op('Identity', ['z'], ['y']), op('Add', ['x', 'z'], ['s'])], {
      outputs: [float('y'), float('z')],
    });
    const [, identity, add] = graph.nodes;
    if (identity === undefined || add === undefined) throw new Error('no node');
    expectCode(() => graph.bypass(identity), 'onnx/bypass');
    expectCode(() => graph.bypass(add), 'onnx/bypass', /2 inputs/);
  });

  test('replaceUses at an output: the new value takes the name', () => {
    const graph = graphOf([op('Relu', ['x'], ['y']), op('Neg', ['y'], ['z'])], { outputs: [float('y'), float('z')] });
    graph.addNode(op('Abs', ['x'], ['n']), { before: graph.nodes[0] });
    graph.replaceUses('y', 'n');
    graph.removeDead();
    expect(written(graph)).toEqual(['Abs(x) → y', 'Neg(y) → z']);
    expect(graph.outputs.map(({ name }) => name)).toEqual(['y', 'z']);
  });

  test('replaceUses at an output by an input: an Identity carries it', () => {
    const graph = graphOf([op('Dropout', ['x'], ['y'])]);
    graph.replaceUses('y', 'x');
    graph.removeDead();
    expect(written(graph)).toEqual(['Identity(x) → y']);
  });
});

describe('removeDead', () => {
  test('a node with one live output stays, a chain of dead ones goes, in bodies too', () => {
    const body = {
      inputs: [],
      outputs: [float('t')],
      nodes: [op('Neg', ['x'], ['t']), op('Exp', ['x'], ['u']), op('Exp', ['u'], ['v'])],
    };
    const graph = graphOf([
      op('Split', ['x'], ['a', 'b']),
      op('If', ['a'], ['y'], { then_branch: { graph: body } }),
      op('Abs', ['b'], ['c']),
      op('Abs', ['c'], ['d']),
    ]);
    expect(graph.removeDead()).toBe(4);
    expect(lines(graph)).toEqual(['Split(x) → a, b', 'If(a) → y', 'Neg(x) → t']);
  });

  test('before IR version 4 a dead initializer goes with its input; later an input is an input', () => {
    const parts = { inputs: [float('x'), float('w')], initializers: { w: tensorFromFloats([1], [2]) } };
    const old = graphOf([op('Relu', ['x'], ['y'])], { ...parts, irVersion: 3 });
    old.removeDead();
    expect([old.inputs.length, old.initializers.size]).toEqual([1, 0]);
    const current = graphOf([op('Relu', ['x'], ['y'])], parts);
    current.removeDead();
    expect([current.inputs.length, current.initializers.size]).toEqual([2, 1]);
  });
});

test('sparse initializers are kept, and their names are taken', () => {
  const sparse = field(15, field(1, int(1, 1), int(2, 1), field(8, 's'), field(9, Buffer.alloc(4))), int(3, 5));
  const bytes = model(node('Add', ['x', 's'], ['y']), sparse, tensor('w', [1]), field(11, field(1, 'x')), output('y'));
  const { graph } = decodeModel(bytes);
  expect(graph.constant('s')).toBeUndefined();
  expect(graph.uniqueName('s')).toBe('s_1');
  checkModel(graph.model);
  graph.removeDead();
  expect(Buffer.from(encodeModel(graph.model)).includes(sparse)).toBe(true);
});

test('the model itself: operator sets, metadata, versions', () => {
  const { model: edited } = graphOf([op('Relu', ['x'], ['y'])]);
  edited.setOpset('com.microsoft', 1);
  edited.setOpset('', 21);
  edited.setMetadata('k', 'v');
  edited.setMetadata('k', 'w');
  edited.setIrVersion(9);
  const again = decodeModel(encodeModel(edited));
  expect([...again.opset]).toEqual([
    ['', 21],
    ['com.microsoft', 1],
  ]);
  expect([...again.metadata]).toEqual([['k', 'w']]);
  expect([again.irVersion, again.producer]).toEqual([9, 'flotilla']);
});
