import {
  buildModel,
  type Model,
  type NewModel,
  type NewNode,
  type NewTensor,
  tensorFromFloats,
  tensorFromInts,
} from '@flotilla/onnx';
import type { Tensors, TensorValue } from '@flotilla/runtime';
import { describe, expect, test } from 'vitest';
import { openModelSession } from '../src/calibrate/model-session.ts';
import { seededRandom } from '../src/calibrate/seeded-random.ts';
import { applyRecipe, parseRecipe } from '../src/index.ts';

const random = seededRandom(3);
const noise = (dims: readonly number[], around = 0): NewTensor =>
  tensorFromFloats(
    dims,
    Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => around + random() * 2 - 1),
  );
const scalar = (value: number) => tensorFromFloats([], Float32Array.of(value));
const image = { name: 'x', type: { dtype: 'float32' as const, dims: [1, 3, 8, 'w'] } };
const y = { name: 'y', type: undefined };

/** A small model of one chain of nodes from x to y. */
function model(parts: Partial<NewModel> & Pick<NewModel, 'nodes'>): Model {
  return buildModel({ opset: 13, inputs: [image], outputs: [y], initializers: {}, ...parts });
}

const numbers = (tensor: TensorValue | undefined): number[] => Array.from(tensor?.data ?? [], Number);

const feeds: Tensors = {
  x: { dtype: 'float32', dims: [1, 3, 8, 6], data: Float32Array.from({ length: 144 }, (_, i) => Math.sin(i) * 4) },
};

/** Runs a recipe of the named passes; what comes out gives the same numbers (the runner sees to that, and so do we). */
async function rewrite(source: Model, passes: string): Promise<Map<string, number>> {
  const recipe = parseRecipe(
    `name: t\npasses: [${passes
      .split(' ')
      .map((pass) => `{ pass: ${pass} }`)
      .join(', ')}]`,
  );
  const data = {
    async *samples() {
      yield { inputs: feeds };
    },
  };
  const applied = await applyRecipe(source, recipe, { calibrationData: data });
  expect(applied.rewriteCheck).toMatchObject({ samples: 1, madeUp: false });
  const [before, after] = [await openModelSession(source), await openModelSession(applied.model)];
  const [a, b] = [await before.run(feeds), await after.run(feeds)];
  await before.close();
  await after.close();
  const [p, q] = [a['y'], b['y']];
  expect(q?.dims).toEqual(p?.dims);
  for (const [i, value] of numbers(p).entries()) expect(numbers(q)[i]).toBeCloseTo(value, 3);
  const counts = new Map<string, number>();
  for (const { opType } of applied.model.graph.nodes) counts.set(opType, (counts.get(opType) ?? 0) + 1);
  return counts;
}

const conv = (inputs: readonly string[], outputs: readonly string[], attributes = {}) => ({
  opType: 'Conv',
  inputs,
  outputs,
  attributes,
});

describe('join-upsampling', () => {
  const blocks = (size: number) => ({ strides: { ints: [size, size] }, kernel_shape: { ints: [size, size] } });
  const up = (inputs: readonly string[], output: string, size: number) => ({
    opType: 'ConvTranspose',
    inputs,
    outputs: [output],
    attributes: blocks(size),
  });
  /** From 64 channels to 5, in blocks of `size`; then what `second` does with weights of the shape `last`. */
  const source = (second: NewNode, last: readonly number[], size = 2) =>
    model({
      nodes: [
        conv(['x', 'w'], ['wide']),
        up(['wide', 'w1', 'b1'], 'a', size),
        { opType: 'Relu', inputs: ['a'], outputs: ['r'] },
        second,
      ],
      initializers: {
        w: noise([64, 3, 1, 1]),
        w1: noise([64, 5, size, size]),
        b1: noise([5]),
        w2: noise(last),
        b2: noise([last[1] ?? 0]),
        b3: noise([last[0] ?? 0]),
      },
    });

  test.each([
    ['a second one', up(['r', 'w2', 'b2'], 'y', 2), [5, 2, 2, 2]],
    ['one of another size, without a bias', up(['r', 'w2'], 'y', 4), [5, 1, 4, 4]],
    ['a 1×1 convolution', conv(['r', 'w2', 'b3'], ['y']), [3, 5, 1, 1]],
  ])('%s is computed before pixels move', async (_, second, last) => {
    const counts = await rewrite(source(second, last), 'join-upsampling');
    expect(counts).toEqual(new Map(Object.entries({ Conv: 3, Relu: 1, DepthToSpace: 1 })));
  });

  test.each<[string, NewNode, number[], number]>([
    [
      'windows overlap',
      { ...up(['r', 'w2', 'b2'], 'y', 2), attributes: { strides: { ints: [1, 1] } } },
      [5, 2, 2, 2],
      2,
    ],
    ['the second would be larger than the first', conv(['r', 'w2', 'b3'], ['y']), [17, 5, 1, 1], 2],
    ['zeros would cost more than moving', up(['r', 'w2', 'b2'], 'y', 2), [5, 1, 2, 2], 4],
    ['pixels meet their neighbours', conv(['r', 'w2', 'b3'], ['y']), [3, 5, 3, 3], 2],
  ])('stays where %s', async (_, second, last, size) => {
    expect((await rewrite(source(second, last, size), 'join-upsampling')).get('ConvTranspose')).toBeGreaterThan(0);
  });
});

describe('factor-gate', () => {
  const gated = (gate: string, sum: readonly string[]) => [
    { opType: 'GlobalAveragePool', inputs: ['x'], outputs: ['p'] },
    conv(['p', 'w'], ['c']),
    { opType: 'Sigmoid', inputs: ['c'], outputs: ['g'] },
    { opType: 'Sigmoid', inputs: ['x'], outputs: ['same'] },
    { opType: 'Mul', inputs: ['x', gate], outputs: ['m'] },
    { opType: 'Add', inputs: sum, outputs: ['s'] },
    { opType: 'Add', inputs: ['s', 'same'], outputs: ['y'] },
  ];
  const source = (gate: string, sum: readonly string[]) =>
    model({ nodes: gated(gate, sum), initializers: { w: noise([3, 3, 1, 1]) } });
  const shortcut = async (from: Model) => {
    const recipe = parseRecipe('name: t\npasses: [{ pass: factor-gate }]');
    return (await applyRecipe(from, recipe)).notes.filter(({ outcome }) => outcome === 'rewritten');
  };

  test('a shortcut around a gate of one element a channel becomes part of the gate', async () => {
    for (const sum of [
      ['x', 'm'],
      ['m', 'x'],
    ]) {
      expect(await shortcut(source('g', sum))).toHaveLength(1);
      expect(await rewrite(source('g', sum), 'factor-gate')).toEqual(
        new Map([
          ['GlobalAveragePool', 1],
          ['Conv', 1],
          ['Sigmoid', 2],
          ['Add', 2],
          ['Mul', 1],
        ]),
      );
    }
  });

  test('one around a gate of every pixel stays, and so does a sum with something else', async () => {
    expect(await shortcut(source('same', ['x', 'm']))).toEqual([]);
    expect(await shortcut(source('g', ['same', 'm']))).toEqual([]);
  });
});

describe('fold-batch-norm', () => {
  const statistics = { g: noise([4], 2), b: noise([4]), m: noise([4]), v: noise([4], 3) };
  const norm = (inputs: string, outputs: string) => ({
    opType: 'BatchNormalization',
    inputs: [inputs, 'g', 'b', 'm', 'v'],
    outputs: [outputs],
  });
  test('goes into Conv, grouped or not, with or without bias', async () => {
    for (const initializers of [{ w: noise([4, 3, 3, 3]) }, { w: noise([4, 3, 3, 3]), c: noise([4]) }])
      expect(
        await rewrite(
          model({
            nodes: [conv(['x', ...Object.keys(initializers)], ['h'], { pads: { ints: [1, 1, 1, 1] } }), norm('h', 'y')],
            initializers: { ...initializers, ...statistics },
          }),
          'fold-batch-norm remove-dead',
        ),
      ).toEqual(new Map([['Conv', 1]]));
  });
  test('goes into ConvTranspose', async () => {
    const counts = await rewrite(
      model({
        nodes: [
          { opType: 'ConvTranspose', inputs: ['x', 'w'], outputs: ['h'], attributes: { strides: { ints: [2, 2] } } },
          norm('h', 'y'),
        ],
        initializers: { w: noise([3, 4, 2, 2]), ...statistics },
      }),
      'fold-batch-norm',
    );
    expect(counts).toEqual(new Map([['ConvTranspose', 1]]));
  });
  test('stays where someone else reads the product', async () => {
    const counts = await rewrite(
      model({
        nodes: [conv(['x', 'w'], ['h']), norm('h', 'n'), { opType: 'Add', inputs: ['h', 'n'], outputs: ['y'] }],
        initializers: { w: noise([4, 3, 1, 1]), ...statistics },
      }),
      'fold-batch-norm',
    );
    expect(counts.get('BatchNormalization')).toBe(1);
  });
});

describe('fold-affine', () => {
  test('a product and a sum go back into the convolution', async () => {
    const counts = await rewrite(
      model({
        nodes: [
          conv(['x', 'w'], ['h']),
          { opType: 'Mul', inputs: ['a', 'h'], outputs: ['i'] },
          { opType: 'Add', inputs: ['i', 'b'], outputs: ['y'] },
        ],
        initializers: { w: noise([4, 3, 1, 1]), a: noise([4, 1, 1]), b: tensorFromFloats([1], Float32Array.of(0.7)) },
      }),
      'fold-affine remove-dead',
    );
    expect(counts).toEqual(new Map([['Conv', 1]]));
  });
  test('forward into every reader, but no sum into a padded one', async () => {
    const nodes = (pads: number) => [
      { opType: 'Sigmoid', inputs: ['x'], outputs: ['s'] },
      { opType: 'Mul', inputs: ['s', 'a'], outputs: ['m'] },
      { opType: 'Add', inputs: ['m', 'b'], outputs: ['t'] },
      conv(['t', 'w'], ['p'], { pads: { ints: [pads, pads, pads, pads] }, group: { int: 3 } }),
      conv(['p', 'v'], ['y']),
    ];
    const initializers = { a: scalar(1.7), b: scalar(0.3), w: noise([3, 1, 3, 3]), v: noise([2, 3, 1, 1]) };
    const padded = await rewrite(model({ nodes: nodes(1), initializers }), 'fold-affine remove-dead');
    expect(padded).toEqual(new Map(Object.entries({ Sigmoid: 1, Add: 1, Conv: 2 })));
    const open = await rewrite(model({ nodes: nodes(0), initializers }), 'fold-affine remove-dead');
    expect(open).toEqual(new Map(Object.entries({ Sigmoid: 1, Conv: 2 })));
  });
  test('a sum stays behind MatMul, which has no bias', async () => {
    const counts = await rewrite(
      model({
        nodes: [
          { opType: 'MatMul', inputs: ['x', 'w'], outputs: ['h'] },
          { opType: 'Mul', inputs: ['h', 'a'], outputs: ['i'] },
          { opType: 'Add', inputs: ['i', 'b'], outputs: ['y'] },
        ],
        initializers: { w: noise([6, 5]), a: noise([5], 2), b: noise([5]) },
      }),
      'fold-affine remove-dead',
    );
    expect(counts).toEqual(new Map(Object.entries({ MatMul: 1, Add: 1 })));
  });
  test('weights that two nodes read are not scaled', async () => {
    const counts = await rewrite(
      model({
        nodes: [
          conv(['x', 'w'], ['h']),
          { opType: 'Mul', inputs: ['h', 'a'], outputs: ['i'] },
          conv(['x', 'w'], ['j']),
          { opType: 'Add', inputs: ['i', 'j'], outputs: ['y'] },
        ],
        initializers: { w: noise([4, 3, 1, 1]), a: scalar(2) },
      }),
      'fold-affine',
    );
    expect(counts.get('Mul')).toBe(1);
  });
});

describe('fuse-hard-swish', () => {
  const initializers = { three: scalar(3), zero: scalar(0), six: scalar(6), sixth: scalar(1 / 6) };
  const start = [
    { opType: 'Add', inputs: ['x', 'three'], outputs: ['a'] },
    { opType: 'Clip', inputs: ['a', 'zero', 'six'], outputs: ['c'] },
  ];
  test.each([
    [
      'x · clip / 6',
      [
        { opType: 'Mul', inputs: ['x', 'c'], outputs: ['m'] },
        { opType: 'Div', inputs: ['m', 'six'], outputs: ['y'] },
      ],
    ],
    [
      'x · (clip · 1/6)',
      [
        { opType: 'Mul', inputs: ['c', 'sixth'], outputs: ['m'] },
        { opType: 'Mul', inputs: ['m', 'x'], outputs: ['y'] },
      ],
    ],
  ])('%s becomes x · HardSigmoid(x)', async (_name, end) => {
    const counts = await rewrite(model({ nodes: [...start, ...end], initializers }), 'fuse-hard-swish remove-dead');
    expect(counts).toEqual(new Map(Object.entries({ HardSigmoid: 1, Mul: 1 })));
  });
  test('clip / 6 alone becomes HardSigmoid, HardSwish is spelt out', async () => {
    const gate = [...start, { opType: 'Div', inputs: ['c', 'six'], outputs: ['y'] }];
    expect(await rewrite(model({ nodes: gate, initializers }), 'fuse-hard-swish remove-dead')).toEqual(
      new Map([['HardSigmoid', 1]]),
    );
    const op = [{ opType: 'HardSwish', inputs: ['x'], outputs: ['y'] }];
    expect(await rewrite(model({ opset: 14, nodes: op }), 'fuse-hard-swish')).toEqual(
      new Map(Object.entries({ HardSigmoid: 1, Mul: 1 })),
    );
  });
  test('another shift, or a clip that someone else reads, stays', async () => {
    const other = [
      ...start,
      { opType: 'Div', inputs: ['c', 'six'], outputs: ['d'] },
      { opType: 'Mul', inputs: ['c', 'd'], outputs: ['y'] },
    ];
    expect((await rewrite(model({ nodes: other, initializers }), 'fuse-hard-swish')).get('Clip')).toBe(1);
  });
});

describe('eliminate-identity', () => {
  test('drops what hands on its input, keeps what widens it', async () => {
    const nodes = [
      { opType: 'Identity', inputs: ['x'], outputs: ['a'] },
      { opType: 'Mul', inputs: ['one', 'a'], outputs: ['b'] },
      { opType: 'Add', inputs: ['b', 'wide'], outputs: ['c'] },
      { opType: 'Cast', inputs: ['c'], outputs: ['d'], attributes: { to: { int: 1 } } },
      { opType: 'Relu', inputs: ['d'], outputs: ['y'] },
    ];
    const initializers = { one: scalar(1), wide: tensorFromFloats([1, 1, 1, 1, 1], Float32Array.of(0)) };
    expect(await rewrite(model({ nodes, initializers }), 'eliminate-identity')).toEqual(
      new Map(Object.entries({ Add: 1, Relu: 1 })),
    );
  });
  test('an Identity between an input and an output stays', async () => {
    const nodes = [{ opType: 'Identity', inputs: ['x'], outputs: ['y'] }];
    expect(await rewrite(model({ nodes }), 'eliminate-identity')).toEqual(new Map([['Identity', 1]]));
  });
});

describe('fold-constants', () => {
  test('shape arithmetic and moved constants are computed once', async () => {
    const nodes = [
      { opType: 'Transpose', inputs: ['w'], outputs: ['wt'], attributes: { perm: { ints: [1, 0] } } },
      { opType: 'Unsqueeze', inputs: ['wt', 'axes'], outputs: ['wu'] },
      { opType: 'Mul', inputs: ['wu', 'two'], outputs: ['wm'] },
      { opType: 'Shape', inputs: ['w'], outputs: ['s'] },
      { opType: 'Gather', inputs: ['s', 'first'], outputs: ['d'] },
      { opType: 'Concat', inputs: ['minus', 'd'], outputs: ['shape'], attributes: { axis: { int: 0 } } },
      { opType: 'Reshape', inputs: ['x', 'shape'], outputs: ['r'] },
      { opType: 'Squeeze', inputs: ['wm', 'axes'], outputs: ['ws'] },
      { opType: 'MatMul', inputs: ['r', 'ws'], outputs: ['y'] },
    ];
    const initializers = {
      w: noise([5, 6]),
      two: scalar(2),
      axes: tensorFromInts('int64', [1], [0]),
      first: tensorFromInts('int64', [1], [1]),
      minus: tensorFromInts('int64', [1], [-1]),
    };
    expect(await rewrite(model({ nodes, initializers }), 'fold-constants remove-dead')).toEqual(
      new Map(Object.entries({ Reshape: 1, MatMul: 1 })),
    );
  });
  test('#24 nothing above the byte budget is made', async () => {
    const source = model({
      nodes: [
        { opType: 'Add', inputs: ['column', 'row'], outputs: ['big'] },
        { opType: 'ReduceMax', inputs: ['big'], outputs: ['most'], attributes: { keepdims: { int: 0 } } },
        { opType: 'Mul', inputs: ['x', 'most'], outputs: ['y'] },
      ],
      initializers: { column: noise([300, 1]), row: noise([1, 300]) },
    });
    const recipe = parseRecipe('name: t\npasses: [{ pass: fold-constants, budgetBytes: 100000 }]');
    const { model: result, notes } = await applyRecipe(source, recipe);
    expect(result.graph.nodes.map(({ opType }) => opType)).toEqual(['Add', 'ReduceMax', 'Mul']);
    expect(notes).toMatchObject([{ op: 'Add', reason: expect.stringContaining('larger than 100000 bytes') }]);
  });
});

test('fold-constants does not store a moved weight beside the one that others read', async () => {
  const nodes = [
    { opType: 'Transpose', inputs: ['w'], outputs: ['wt'] },
    { opType: 'MatMul', inputs: ['x', 'w'], outputs: ['a'] },
    { opType: 'MatMul', inputs: ['a', 'wt'], outputs: ['y'] },
  ];
  const source = model({ nodes, initializers: { w: noise([6, 300]) } });
  expect(await rewrite(source, 'fold-constants')).toEqual(new Map(Object.entries({ Transpose: 1, MatMul: 2 })));
});

test('divide-to-multiply keeps a division whose inverse is not finite', async () => {
  const nodes = [
    { opType: 'Div', inputs: ['x', 'six'], outputs: ['a'] },
    { opType: 'Div', inputs: ['a', 'tiny'], outputs: ['b'] },
    { opType: 'Mul', inputs: ['b', 'tiny'], outputs: ['y'] },
  ];
  const counts = await rewrite(
    model({ nodes, initializers: { six: scalar(6), tiny: scalar(1e-39) } }),
    'divide-to-multiply',
  );
  expect(counts).toEqual(new Map(Object.entries({ Mul: 2, Div: 1 })));
});
