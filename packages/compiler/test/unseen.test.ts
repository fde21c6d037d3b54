import { loadBoard } from '@flotilla/boards';
import { lowerModel } from '@flotilla/lowering';
import { buildModel, type NewNode, tensorFromFloats, tensorFromInts, tensorInfo } from '@flotilla/onnx';
import { expect, test } from 'vitest';
import { openModelSession } from '../src/calibrate/model-session.ts';
import { countNodes } from '../src/compile/node-counts.ts';
import { growthWarnings } from '../src/compile/size-rules.ts';
import { applyRecipe, builtInRecipe, parseRecipe } from '../src/index.ts';
import { build, input, node, noise } from './small-models.ts';

const sample = (dims: number[]) => ({
  async *samples() {
    yield { inputs: { x: { dtype: 'float32' as const, dims, data: input(dims) } } };
  },
});

test.each([
  ['of IR version 3, which lists every initializer among its inputs', 9, 3],
  ['whose initializer is the default of an input', 21, 10],
])('a model %s is calibrated on the inputs that are fed', async (_name, opset, irVersion) => {
  const source = buildModel({
    opset,
    irVersion,
    inputs: [tensorInfo('x', 'float32', [4, 64]), tensorInfo('gain', 'float32', [1])],
    outputs: [tensorInfo('y', 'float32', [4, 32])],
    nodes: [
      { opType: 'MatMul', inputs: ['x', 'w'], outputs: ['p'] },
      { opType: 'Mul', inputs: ['p', 'gain'], outputs: ['y'] },
    ],
    initializers: { w: noise([64, 32]), gain: tensorFromFloats([1], [2]) },
  });
  const { model } = await applyRecipe(source, builtInRecipe('int4', undefined), { calibrationData: sample([4, 64]) });
  expect([...model.graph.walk({ opType: 'DequantizeLinear' })]).toHaveLength(1);
});

/** A layer whose weights no kernel takes in blocks, each 1,024 elements or more. */
const layers: [string, NewNode, number[], { [name: string]: number[] }][] = [
  ['GRU', node('GRU', ['x', 'w', 'r'], { hidden_size: { int: 16 } }), [5, 1, 24], { w: [1, 48, 24], r: [1, 48, 16] }],
  [
    'ConvTranspose',
    node('ConvTranspose', ['x', 'w'], { strides: { ints: [2, 2] } }),
    [1, 16, 4, 4],
    { w: [16, 8, 3, 3] },
  ],
];

test.each(layers)('--weights int4 stores a %s in int8', async (_name, layer, dims, shapes) => {
  const weights = Object.fromEntries(Object.entries(shapes).map(([name, shape]) => [name, noise(shape)]));
  const source = build([layer], weights, dims);
  const { model, notes } = await applyRecipe(source, builtInRecipe('int4', undefined));
  expect(countNodes(notes)).toMatchObject({ nodes: { quantized: 1, float: 0 }, float: [] });
  for (const tensor of model.graph.initializers.values()) if (tensor.dims.length > 2) expect(tensor.dtype).toBe('int8');
  const [before, after] = [await openModelSession(source), await openModelSession(model)];
  const feeds = { x: { dtype: 'float32' as const, dims, data: input(dims) } };
  const [[a], [b]] = [Object.values(await before.run(feeds)), Object.values(await after.run(feeds))];
  await Promise.all([before.close(), after.close()]);
  for (const [i, value] of (a?.data ?? []).entries()) expect(Number(b?.data[i])).toBeCloseTo(Number(value), 0);
});

test('an operator that no conversion knows is named among what stays float', async () => {
  const einsum = node('Einsum', ['x', 'w'], { equation: { string: 'bed,edh->beh' } }, 'y', 'mix');
  const { notes } = await applyRecipe(
    build([einsum], { w: noise([4, 32, 16]) }, [2, 4, 32]),
    builtInRecipe('int8', 'none'),
  );
  const reason = 'no pass of the recipe quantizes Einsum: 2,048 weights stay float';
  expect(countNodes(notes).float).toEqual([{ node: 'mix', op: 'Einsum', reason }]);
});

test('an operator of another domain is named too', async () => {
  const foreign = {
    ...node('FusedMatMul', ['x', 'w'], { transBatchB: { int: 1 } }, 'y', 'fused'),
    domain: 'com.microsoft',
  };
  const { notes } = await applyRecipe(
    build([foreign], { w: noise([2, 32, 64]) }, [32, 2, 2]),
    builtInRecipe('int8', 'none'),
  );
  const reason = 'no pass of the recipe quantizes FusedMatMul: 4,096 weights stay float';
  expect(countNodes(notes).float).toMatchObject([{ node: 'fused', reason }]);
});

test('nodes without a name, or with a shared one, are counted each', async () => {
  const source = build(
    [
      node('MatMul', ['x', 'a'], {}, 'p', ''),
      node('MatMul', ['p', 'b'], {}, 'q', ''),
      node('MatMul', ['q', 'a'], {}, 'r', 'twin'),
      node('MatMul', ['r', 'b'], {}, 'y', 'twin'),
    ],
    { a: noise([32, 32]), b: noise([32, 32]) },
    [2, 32],
  );
  const recipe = parseRecipe('name: t\npasses: [{ pass: convert-int8 }]');
  const { notes } = await applyRecipe(source, recipe);
  expect(countNodes(notes).nodes.quantized).toBe(4);
  expect(new Set(notes.map(({ node: label }) => label))).toEqual(new Set(['p', 'q', 'r', 'y']));
});

test.each([
  ['btd,dhk->bhtk', [2, 5, 6], [6, 3, 4]],
  ['bhtk,hkd->btd', [2, 3, 5, 4], [3, 4, 6]],
  ['oi,bit->bot', [2, 6, 5], [4, 6], 'w first'],
  ['bd,d->b', [2, 6], [6]],
  ['d,dk->k', [6], [6, 3]],
])('Einsum %s becomes a product with a matrix', async (equation, dims, shape, first = '') => {
  const inputs = first === '' ? ['x', 'w'] : ['w', 'x'];
  const source = build([node('Einsum', inputs, { equation: { string: equation } })], { w: noise(shape) }, dims);
  // The runner compares the outputs.
  const recipe = parseRecipe('name: t\npasses: [{ pass: einsum-to-matmul }]');
  const { model, rewriteCheck } = await applyRecipe(source, recipe, { calibrationData: sample(dims) });
  expect([...model.graph.walk()].map(({ opType }) => opType)).toContain('MatMul');
  expect([...model.graph.walk({ opType: 'Einsum' })]).toHaveLength(0);
  expect(rewriteCheck).toMatchObject({ samples: 1, madeUp: false });
});

test('a head tied to its embedding by a Transpose is quantized, and stays tied', async () => {
  const nodes = [
    node('Transpose', ['table'], { perm: { ints: [1, 0] } }, 'head'),
    node('Gather', ['table', 'ids'], {}, 'rows'),
    node('Tanh', ['rows'], {}, 'hidden'),
    node('MatMul', ['hidden', 'head'], {}, 'y', 'logits'),
  ];
  const ids = tensorFromInts('int64', [1, 3], [1, 5, 90]);
  const source = build(nodes, { table: noise([100, 64]), ids }, [1]);
  const recipe = parseRecipe('name: t\npasses: [{ pass: convert-int4, head: int4 }]');
  const { model, notes } = await applyRecipe(source, recipe);
  expect(countNodes(notes)).toMatchObject({ nodes: { quantized: 2, float: 0 } });
  expect([...model.graph.initializers.values()].filter(({ dtype }) => dtype.includes('float')).length).toBe(1);
  const lowered = lowerModel(model, await loadBoard('raspberrypi-5'));
  expect(lowered.choices.map(({ kernel }) => kernel)).toEqual(['GatherBlockQuantized', 'MatMulNBits']);
  const [portable, fused] = [await openModelSession(model), await openModelSession(lowered.model)];
  const [[a], [b]] = [Object.values(await portable.run({})), Object.values(await fused.run({}))];
  await Promise.all([portable.close(), fused.close()]);
  expect(b?.dims).toEqual([1, 3, 100]);
  for (const [i, value] of (a?.data ?? []).entries())
    expect(Math.abs(Number(b?.data[i]) - Number(value))).toBeLessThan(0.1);
});

test('int8 recipes store an embedding as int8 rows, once, and leave it to a float reader', async () => {
  const ids = (at: number) => tensorFromInts('int64', [2], [at, 7]);
  const lookups = [node('Gather', ['table', 'a'], {}, 'p'), node('Gather', ['table', 'b'], {}, 'q', 'second')];
  const build2 = (last: NewNode) => build([...lookups, last], { table: noise([100, 64]), a: ids(1), b: ids(2) }, [1]);
  const int8s = async (last: NewNode) => {
    const { model } = await applyRecipe(build2(last), builtInRecipe('int8', 'dynamic'));
    return [...model.graph.initializers.values()]
      .filter(({ dims }) => dims.join() === '100,64')
      .map(({ dtype }) => dtype);
  };
  expect(await int8s(node('Add', ['p', 'q']))).toEqual(['int8']);
  expect(await int8s(node('Concat', ['p', 'q', 'table'], { axis: { int: 0 } }))).toEqual(['float32']);
});

test.each<[string, NewNode, number[], { [name: string]: number[] }, string[]]>([
  [
    'FusedMatMul',
    node('FusedMatMul', ['x', 'w'], { alpha: { float: 0.5 }, transB: { int: 1 } }),
    [2, 32],
    { w: [64, 32] },
    ['MatMul', 'Mul'],
  ],
  [
    'FusedGemm',
    node('FusedGemm', ['x', 'w', 'b'], { activation: { string: 'LeakyRelu' }, activation_alpha: { float: 0.3 } }),
    [2, 32],
    { w: [32, 64], b: [64] },
    ['Gemm', 'LeakyRelu'],
  ],
  [
    'FusedConv',
    node('FusedConv', ['x', 'w', '', 'x'], {
      activation: { string: 'Clip' },
      activation_params: { floats: [-1, 2] },
      pads: { ints: [1, 1, 1, 1] },
    }),
    [1, 16, 6, 6],
    { w: [16, 16, 3, 3] },
    ['Conv', 'Add', 'Clip'],
  ],
])(
  '%s, as ONNX Runtime saves its optimized models, is taken apart and quantized',
  async (_op, own, dims, shapes, parts) => {
    const weights = Object.fromEntries(Object.entries(shapes).map(([name, shape]) => [name, noise(shape)]));
    const source = build([{ ...own, domain: 'com.microsoft' }], weights, dims);
    const apart = parseRecipe('name: t\npasses: [{ pass: split-fused }]');
    // The runner compares the outputs.
    const { model, rewriteCheck } = await applyRecipe(source, apart, { calibrationData: sample(dims) });
    expect(rewriteCheck?.samples).toBeGreaterThan(0);
    expect(Array.from(model.graph.walk(), ({ opType }) => opType).filter((op) => op !== 'Transpose')).toEqual(parts);
    const { notes } = await applyRecipe(source, builtInRecipe('int8', 'none'));
    expect(countNodes(notes)).toMatchObject({ nodes: { quantized: 1, float: 0 } });
  },
);

test('a model that quantization makes larger is said to be', () => {
  const nodes = { quantized: 1, float: 0 };
  expect(growthWarnings(nodes, 701, 700)).toEqual([expect.stringContaining("701 bytes, more than the source's 700")]);
  expect([...growthWarnings(nodes, 700, 700), ...growthWarnings({ ...nodes, quantized: 0 }, 701, 700)]).toEqual([]);
});
