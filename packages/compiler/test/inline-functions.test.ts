import { encodeModel, buildModel, decodeModel, type Model, type NewNode, tensorInfo } from '@flotilla/onnx';
import { expect, test } from 'vitest';
import { field, int, node as rawNode, output, type Part } from '../../onnx/test/raw.ts';
import { openModelSession } from '../src/calibrate/model-session.ts';
import { countNodes } from '../src/compile/node-counts.ts';
import { applyRecipe, builtInRecipe, parseRecipe } from '../src/index.ts';
import { input, node, noise } from './small-models.ts';

const recipe = parseRecipe('name: t\npasses: [{ pass: inline-functions }]');
const own = (opType: string, inputs: string[], outputs: string[], attributes = {}): NewNode => ({
  opType,
  inputs,
  outputs,
  attributes,
  domain: 'own',
});

interface Signature {
  readonly inputs: string[];
  readonly outputs: string[];
  readonly opset?: number;
  readonly more?: Part[];
}

/** FunctionProto: its nodes as the encoder writes a graph's (field 1 there, 7 here). */
function functionField(name: string, { inputs, outputs, opset = 18, more = [] }: Signature, nodes: Part[]): Buffer {
  const imports = [field(9, int(2, opset)), field(9, field(1, 'own'), int(2, 1))];
  const signature = [...inputs.map((one) => field(4, one)), ...outputs.map((one) => field(5, one))];
  return field(
    25,
    field(1, name),
    ...signature,
    ...more,
    ...nodes.map((one) => field(7, one)),
    ...imports,
    field(10, 'own'),
  );
}

/** NodeProto by hand: only so can an attribute refer to the function's. */
const raw = (opType: string, inputs: string[], outputs: string[], ...more: Part[]): Buffer =>
  Buffer.concat([
    ...inputs.map((one) => field(1, one)),
    ...outputs.map((one) => field(2, one)),
    field(4, opType),
    ...more.map((one) => Buffer.from(one)),
  ]);

/** An attribute that refers to the function's: name, ref_attr_name (21), type. */
const refers = (name: string, to: string, type: number): Buffer =>
  field(5, field(1, name), field(21, to), int(20, type));
const FLOAT = 1;

function withFunctions(nodes: NewNode[], functions: Buffer[], weights = {}, dims = [2, 32]): Model {
  const bare = buildModel({
    opset: 18,
    domains: { own: 1 },
    inputs: [tensorInfo('x', 'float32', dims)],
    outputs: [tensorInfo('y', 'float32', undefined)],
    nodes,
    initializers: weights,
  });
  return decodeModel(Buffer.concat([encodeModel(bare), ...functions]));
}

/** What the rewritten model has; that it computes the same, ONNX Runtime says. */
async function inlined(source: Model, dims = [2, 32]): Promise<Model> {
  const { model, rewriteCheck } = await applyRecipe(source, recipe, {
    calibrationData: {
      async *samples() {
        yield { inputs: { x: { dtype: 'float32' as const, dims, data: input(dims) } } };
      },
    },
  });
  expect(rewriteCheck?.samples).toBeGreaterThan(0);
  return model;
}

const opTypes = (model: Model): string[] => Array.from(model.graph.walk(), ({ opType }) => opType);

test('a function takes the call’s attributes, its own defaults, and the place of each call', async () => {
  const alpha = field(11, field(1, 'alpha'), int(20, FLOAT), Buffer.from([0x15, 0, 0, 0, 0x3f]));
  const leaky = functionField('Leak', { inputs: ['a'], outputs: ['b'], more: [alpha] }, [
    raw('LeakyRelu', ['a'], ['t'], refers('alpha', 'alpha', FLOAT)),
    raw('Elu', ['t'], ['b'], refers('alpha', 'none', FLOAT)),
  ]);
  const model = await inlined(
    withFunctions([own('Leak', ['x'], ['t'], { alpha: { float: 0.25 } }), own('Leak', ['t'], ['y'])], [leaky]),
  );
  expect(opTypes(model)).toEqual(['LeakyRelu', 'Elu', 'LeakyRelu', 'Elu']);
  const [first, , second] = model.graph.nodes;
  expect([first?.float('alpha', 9), second?.float('alpha', 9)]).toEqual([0.25, 0.5]);
  const bytes = encodeModel(model);
  expect(Buffer.from(bytes).includes('Leak\u0012')).toBe(false);
  expect(opTypes(decodeModel(bytes))).toHaveLength(4);
});

test('calls within functions and bodies, and inputs that they leave out', async () => {
  // The bound above is left out by the caller.
  const bounded = functionField('Bounded', { inputs: ['a', 'low', 'high'], outputs: ['b'] }, [
    raw('Clip', ['a', 'low', 'high'], ['b']),
  ]);
  const twice = functionField('Twice', { inputs: ['a', 'low'], outputs: ['c'] }, [
    raw('Bounded', ['a', 'low'], ['t'], field(7, 'own')),
    raw('Add', ['t', 'a'], ['c']),
  ]);
  const branch = (opType: string) => ({
    inputs: [],
    outputs: [tensorInfo(`${opType}_out`, 'float32', undefined)],
    nodes: [opType === 'Twice' ? own('Twice', ['x', 'zero'], ['Twice_out']) : node('Neg', ['x'], {}, 'Neg_out')],
  });
  const source = withFunctions(
    [
      node('If', ['yes'], { then_branch: { graph: branch('Twice') }, else_branch: { graph: branch('Neg') } }, 't'),
      own('Twice', ['t', 'zero'], ['y']),
    ],
    [twice, bounded],
    { zero: noise([]), yes: { dtype: 'bool' as const, dims: [], bytes: Uint8Array.of(1) } },
  );
  const model = await inlined(source);
  expect(opTypes(model).toSorted()).toEqual(['Add', 'Add', 'Clip', 'Clip', 'If', 'Neg']);
});

test('the older of function and model is raised', async () => {
  // Until opset 13 the axes were an attribute. ONNX Runtime reads every function as of the model's version.
  const axes = field(5, field(1, 'axes'), int(20, 7), int(8, 0));
  const old = functionField('Lift', { inputs: ['a'], outputs: ['b'], opset: 11 }, [
    raw('Unsqueeze', ['a'], ['b'], axes),
  ]);
  const { model } = await applyRecipe(withFunctions([own('Lift', ['x'], ['y'])], [old]), recipe, { unrun: true });
  expect(await run(model)).toMatchObject({ dims: [1, 2, 32], data: input([2, 32]) });
  const late = functionField('Same', { inputs: ['a'], outputs: ['b'], opset: 21 }, [raw('Abs', ['a'], ['b'])]);
  const raised = await inlined(withFunctions([own('Same', ['x'], ['y'])], [late]));
  expect([opTypes(raised), raised.opset.get('')]).toEqual([['Abs'], 21]);
});

test('an output that is an input is a copy', async () => {
  const both = functionField('Both', { inputs: ['a'], outputs: ['b', 'a'] }, [raw('Neg', ['a'], ['b'])]);
  const calls = [own('Both', ['x'], ['t', 'same']), node('Add', ['t', 'same'], {}, 'y')];
  // ONNX Runtime does not take the source.
  const { model } = await applyRecipe(withFunctions(calls, [both]), recipe, { unrun: true });
  expect((await run(model))?.data).toEqual(new Float32Array(64));
});

async function run(model: Model) {
  const session = await openModelSession(model);
  const { y } = await session.run({ x: { dtype: 'float32', dims: [2, 32], data: input([2, 32]) } });
  await session.close();
  return y;
}

test.each(['int8', 'int4', 'nf4'])('--weights %s quantizes what lies in a function', async (weights) => {
  const dense = functionField('Dense', { inputs: ['a', 'w'], outputs: ['b'] }, [raw('MatMul', ['a', 'w'], ['b'])]);
  const source = withFunctions([own('Dense', ['x', 'w'], ['y'])], [dense], { w: noise([32, 64]) });
  const { notes, model } = await applyRecipe(
    source,
    builtInRecipe(weights, weights === 'int8' ? 'dynamic' : undefined),
  );
  expect(countNodes(notes)).toMatchObject({ nodes: { quantized: 1, float: 0 } });
  expect((await run(model))?.dims).toEqual([2, 64]);
});

test('#1 functions that call each other in a ring, a body of one among them, are refused', async () => {
  const ring = functionField('Ring', { inputs: ['a'], outputs: ['b'] }, [raw('Ring', ['a'], ['b'], field(7, 'own'))]);
  await expect(applyRecipe(withFunctions([own('Ring', ['x'], ['y'])], [ring]), recipe)).rejects.toMatchObject({
    code: 'onnx/cycle',
  });
});

test('bodies in a function get names of their own at each call', async () => {
  const body = (name: string, opType: string) =>
    field(
      5,
      field(1, name),
      int(20, 5),
      field(6, field(2, name), rawNode(opType, ['a'], ['t']), rawNode('Neg', ['t'], ['out']), output('out')),
    );
  const chosen = functionField('Choose', { inputs: ['a', 'yes'], outputs: ['b'] }, [
    raw('If', ['yes'], ['b'], body('then_branch', 'Abs'), body('else_branch', 'Exp')),
  ]);
  const yes = { dtype: 'bool' as const, dims: [], bytes: Uint8Array.of(1) };
  const calls = [own('Choose', ['x', 'yes'], ['t']), own('Choose', ['t', 'yes'], ['y'])];
  const model = await inlined(withFunctions(calls, [chosen], { yes }));
  const made = Array.from(model.graph.walk(), ({ outputs }) => outputs[0]);
  expect(new Set(made).size).toBe(10);
});
