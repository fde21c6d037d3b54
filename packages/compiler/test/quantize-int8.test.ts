import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  buildModel,
  encodeModel,
  floats,
  integers,
  type Model,
  type NewModel,
  type NewTensor,
  openModel,
  type Tensor,
  tensorFromFloats,
  tensorFromInts,
} from '@flotilla/onnx';
import type { Tensors, TensorValue } from '@flotilla/runtime';
import * as ort from 'onnxruntime-node';
import { describe, expect, test } from 'vitest';
import { seededRandom } from '../src/calibrate/seeded-random.ts';
import { openModelSession } from '../src/calibrate/model-session.ts';
import { type Applied, applyRecipe, parseRecipe } from '../src/index.ts';

const random = seededRandom(11);
const noise = (dims: readonly number[], size = 1): NewTensor =>
  tensorFromFloats(
    dims,
    Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => (random() * 2 - 1) * size),
  );
const scalar = (value: number) => tensorFromFloats([], Float32Array.of(value));
const conv = (inputs: readonly string[], output: string, attributes = {}) => ({
  opType: 'Conv',
  inputs,
  outputs: [output],
  attributes,
});
const unary = (opType: string, input: string, output: string) => ({ opType, inputs: [input], outputs: [output] });

function model(dims: readonly (number | string)[], parts: Pick<NewModel, 'nodes' | 'initializers'>): Model {
  return buildModel({
    opset: 17,
    inputs: [{ name: 'x', type: { dtype: 'float32', dims } }],
    outputs: [{ name: 'y', type: undefined }],
    ...parts,
  });
}

/** Samples whose last dimension varies. */
function samples(dims: readonly number[], count: number, vary = 0): Tensors[] {
  return Array.from({ length: count }, (_, k) => {
    const own = [...dims.slice(0, -1), (dims.at(-1) ?? 1) + vary * k];
    const length = own.reduce((a, b) => a * b, 1);
    return { x: { dtype: 'float32', dims: own, data: Float32Array.from({ length }, () => random() * 4 - 1.5) } };
  });
}

const int8 = (options = '') =>
  `name: t\npasses: [{ recipe: clean }, { pass: analyze }, { pass: calibrate, fewest: 2 }, { pass: quantize-int8-static${options} }, { pass: correct-bias }]`;

async function quantize(source: Model, data: readonly Tensors[], recipe = int8()): Promise<Applied> {
  return applyRecipe(source, parseRecipe(recipe), {
    calibrationData: {
      async *samples() {
        for (const inputs of data) yield { inputs };
      },
    },
  });
}

const numbers = (tensor: TensorValue | undefined): number[] => Array.from(tensor?.data ?? [], Number);

/** Signal to error over all samples, in dB. */
async function sqnrDb(source: Model, result: Model, data: readonly Tensors[]): Promise<number> {
  const [before, after] = [await openModelSession(source), await openModelSession(result)];
  let [signal, error] = [0, 0];
  for (const feeds of data) {
    const [a, b] = [(await before.run(feeds))['y'], (await after.run(feeds))['y']];
    expect(b?.dims).toEqual(a?.dims);
    for (const [i, value] of numbers(a).entries()) {
      signal += value ** 2;
      error += (value - (numbers(b)[i] ?? 0)) ** 2;
    }
  }
  await before.close();
  await after.close();
  return 10 * Math.log10(signal / error);
}

/** What ONNX Runtime makes of the model at load. */
async function kernels(result: Model): Promise<Map<string, number>> {
  const dir = await mkdtemp(join(tmpdir(), 'kernels-'));
  const optimizedModelFilePath = join(dir, 'optimized.onnx');
  const session = await ort.InferenceSession.create(encodeModel(result), {
    optimizedModelFilePath,
    logSeverityLevel: 3,
  });
  await session.release();
  const counts = new Map<string, number>();
  for (const { opType } of (await openModel(optimizedModelFilePath)).graph.nodes)
    counts.set(opType, (counts.get(opType) ?? 0) + 1);
  await rm(dir, { recursive: true });
  return counts;
}

/** A mobile block: conv, hard-swish, scale and shift, depthwise, hard-swish, squeeze and excitation, conv, Relu, conv. */
const block = model([1, 3, 12, 'w'], {
  nodes: [
    conv(['x', 'w1', 'b1'], 'c1', { pads: { ints: [1, 1, 1, 1] } }),
    unary('HardSwish', 'c1', 'h1'),
    { opType: 'Mul', inputs: ['h1', 'a'], outputs: ['m1'] },
    { opType: 'Add', inputs: ['m1', 'b'], outputs: ['s1'] },
    conv(['s1', 'w2', 'b1'], 'c2', { pads: { ints: [1, 1, 1, 1] }, group: { int: 8 } }),
    unary('HardSwish', 'c2', 'h2'),
    unary('GlobalAveragePool', 'h2', 'p'),
    conv(['p', 'w3'], 'c3'),
    unary('Relu', 'c3', 'r3'),
    conv(['r3', 'w4'], 'c4'),
    { ...unary('HardSigmoid', 'c4', 'g'), attributes: { alpha: { float: 1 / 6 } } },
    { opType: 'Mul', inputs: ['h2', 'g'], outputs: ['e'] },
    conv(['e', 'w5', 'b1'], 'c5'),
    unary('Sigmoid', 'c5', 'sg'),
    { opType: 'Mul', inputs: ['c5', 'sg'], outputs: ['sw'] },
    conv(['sw', 'w6'], 'y', { strides: { ints: [2, 2] } }),
  ],
  initializers: {
    w1: noise([8, 3, 3, 3]),
    w2: noise([8, 1, 3, 3]),
    w3: noise([4, 8, 1, 1]),
    w4: noise([8, 4, 1, 1]),
    w5: noise([8, 8, 1, 1]),
    w6: noise([6, 8, 3, 3], 0.5),
    b1: noise([8]),
    a: scalar(1.3),
    b: scalar(-0.21),
  },
});

describe('static int8', () => {
  test('a mobile block becomes integers from end to end, with shapes that vary', async () => {
    const [calibration, held] = [samples([1, 3, 12, 10], 24, 1), samples([1, 3, 12, 17], 6, 3)];
    const { model: result, notes } = await quantize(block, calibration, int8(', floatPooled: false'));
    expect(await sqnrDb(block, result, held)).toBeGreaterThan(22);
    const made = await kernels(result);
    expect(made.get('QLinearConv')).toBe(6);
    // Two gates, one product each, the excitation's and the swish's.
    expect(made.get('QLinearMul')).toBe(4);
    expect(made.get('Clip')).toBe(2);
    expect(['Conv', 'Mul', 'HardSigmoid', 'Sigmoid', 'Relu', 'Add'].filter((op) => made.has(op))).toEqual([]);
    expect([made.get('QuantizeLinear'), made.get('DequantizeLinear')]).toEqual([1, 1]);
    expect(notes.filter(({ outcome }) => outcome === 'float')).toEqual([]);
    expect(result.graph.outputs.map(({ name }) => name)).toEqual(['y']);
  });

  test('squeeze and excitation stays float, its weights are stored in int8; its product is in integers where asked for', async () => {
    const { model: result, notes } = await quantize(block, samples([1, 3, 12, 10], 24, 1));
    expect(await sqnrDb(block, result, samples([1, 3, 12, 17], 6))).toBeGreaterThan(22);
    expect(Object.fromEntries(await kernels(result))).toMatchObject({
      QLinearConv: 4,
      QLinearMul: 2,
      GlobalAveragePool: 1,
      Mul: 2,
      FusedConv: 2,
    });
    const { model: faster } = await quantize(block, samples([1, 3, 12, 10], 24, 1), int8(', integerExcitation: true'));
    expect(await sqnrDb(block, faster, samples([1, 3, 12, 17], 6))).toBeGreaterThan(22);
    expect(Object.fromEntries(await kernels(faster))).toMatchObject({ QLinearMul: 4, FusedConv: 2 });
    expect(notes.filter(({ reason }) => reason.includes('pooled'))).toHaveLength(2);
    for (const name of ['w3_q', 'w4_q']) expect(result.graph.initializers.get(name)?.dtype).toBe('int8');
  });

  test('a leaky Relu cut from below saturates instead', async () => {
    const source = model([1, 3, 6, 6], {
      nodes: [
        conv(['x', 'w1'], 'c'),
        { ...unary('LeakyRelu', 'c', 'l'), attributes: { alpha: { float: 0.2 } } },
        { opType: 'Max', inputs: ['l', 'floor'], outputs: ['m'] },
        conv(['m', 'w2'], 'y'),
      ],
      initializers: { w1: noise([5, 3, 1, 1]), w2: noise([4, 5, 1, 1]), floor: scalar(-0.3) },
    });
    const { model: result } = await quantize(source, samples([1, 3, 6, 6], 20));
    expect(await sqnrDb(source, result, samples([1, 3, 6, 6], 6))).toBeGreaterThan(26);
    const made = await kernels(result);
    expect(made.has('Max')).toBe(false);
    expect(made.get('QLinearLeakyRelu')).toBe(1);
  });

  test('bias correction brings it nearer', async () => {
    const [calibration, held] = [samples([1, 3, 12, 14], 24), samples([1, 3, 12, 14], 8)];
    const { model: with_ } = await quantize(block, calibration);
    const { model: without } = await quantize(block, calibration, int8().replace(', { pass: correct-bias }', ''));
    expect(await sqnrDb(block, with_, held)).toBeGreaterThan(await sqnrDb(block, without, held));
  });

  test.each<[string, number]>([
    ['symmetric: true', 15],
    ['activations: int8', 18],
    ['activations: int8, symmetric: true, observer: min-max', 15],
    ['perChannel: false', 12],
    ['observer: moving-average', 10],
    ['observer: mse', 15],
    ['observer: entropy', 8],
  ])('%s is an option', async (options, atLeast) => {
    const [calibration, held] = [samples([1, 3, 12, 10], 20, 1), samples([1, 3, 12, 17], 4, 3)];
    const { model: result } = await quantize(block, calibration, int8(`, ${options}`));
    expect(await sqnrDb(block, result, held)).toBeGreaterThan(atLeast);
    const { graph } = result;
    const constants = (index: number, opType: string) =>
      graph.nodes.filter((node) => node.opType === opType).map((node) => graph.constant(node.inputs[index] ?? ''));
    const zeros = constants(2, 'QuantizeLinear').map((tensor) => [tensor?.dtype, integers(tensor as Tensor)[0]]);
    expect(new Set(zeros.map(([dtype]) => dtype))).toEqual(new Set([options.includes('int8') ? 'int8' : 'uint8']));
    // The gates keep an interval that starts where they close.
    const middle = options.includes('int8') ? 0 : 128;
    if (options.includes('symmetric')) expect(zeros.filter(([, zero]) => zero === middle).length).toBeGreaterThan(2);
    const scales = constants(1, 'DequantizeLinear').filter((tensor) => tensor?.dims[0] === 8);
    const even = scales.filter((tensor) => new Set(floats(tensor as Tensor)).size === 1);
    if (options.includes('perChannel')) expect(even.length).toBeGreaterThan(2);
    else expect(even).toEqual([]);
  });

  test('adaround brings depthwise and dense layers nearer where neighbours go together', async () => {
    const pads = { pads: { ints: [1, 1, 1, 1] } };
    const own = seededRandom(31);
    const weights = (dims: readonly number[], length: number) =>
      tensorFromFloats(
        dims,
        Float32Array.from({ length }, () => own() * 2 - 1),
      );
    const source = model([1, 6, 9, 9], {
      nodes: [
        conv(['x', 'w1'], 'a', { group: { int: 6 }, ...pads }),
        conv(['a', 'w2'], 'b', pads),
        conv(['b', 'w3'], 'y'),
      ],
      initializers: { w1: weights([6, 1, 3, 3], 54), w2: weights([8, 6, 3, 3], 432), w3: weights([4, 8, 1, 1], 32) },
    });
    // One slope for all channels, and a little of their own.
    const smooth = Array.from({ length: 20 }, (): Tensors => {
      const [across, down] = [own() - 0.5, own() - 0.5];
      const data = Float32Array.from(
        { length: 486 },
        (_, i) => across * (i % 9) + down * (((i / 9) | 0) % 9) + own() / 4,
      );
      return { x: { dtype: 'float32', dims: [1, 6, 9, 9], data } };
    });
    const recipe = int8(', weightRange: reduced').replace(', { pass: correct-bias }', '');
    const { model: nearest } = await quantize(source, smooth, recipe);
    const { model: rounded } = await quantize(source, smooth, recipe.replace(']', ', { pass: adaround }]'));
    const held = smooth.slice(-5);
    expect(await sqnrDb(source, rounded, held)).toBeGreaterThan((await sqnrDb(source, nearest, held)) + 0.2);
    for (const name of ['w1_q', 'w2_q'])
      expect(rounded.graph.initializers.get(name)?.bytes()).not.toEqual(nearest.graph.initializers.get(name)?.bytes());
  });

  test('MatMul and a sum become Gemm, Gemm takes its Relu along, an activation product stays float with its reason', async () => {
    const source = model([2, 8], {
      nodes: [
        { opType: 'MatMul', inputs: ['x', 'w1'], outputs: ['m'] },
        { opType: 'Add', inputs: ['m', 'b1'], outputs: ['a'] },
        unary('Tanh', 'a', 't'),
        { opType: 'Gemm', inputs: ['t', 'w2', 'b2'], outputs: ['g'], attributes: { transB: { int: 1 } } },
        unary('Relu', 'g', 'r'),
        { opType: 'Gemm', inputs: ['r', 'w3'], outputs: ['h'] },
        { opType: 'Transpose', inputs: ['h'], outputs: ['ht'] },
        { opType: 'MatMul', inputs: ['h', 'ht'], outputs: ['y'] },
      ],
      initializers: { w1: noise([8, 16]), b1: noise([16]), w2: noise([12, 16]), b2: noise([12]), w3: noise([12, 4]) },
    });
    const { model: result, notes } = await quantize(source, samples([2, 8], 20));
    expect(await sqnrDb(source, result, samples([2, 8], 6))).toBeGreaterThan(24);
    const made = await kernels(result);
    expect(Object.fromEntries(made)).toMatchObject({ QGemm: 3 });
    expect(made.has('Relu')).toBe(false);
    expect(notes).toContainEqual(
      expect.objectContaining({ op: 'MatMul', outcome: 'float', reason: 'both factors are activations' }),
    );
    expect(notes).toContainEqual(
      expect.objectContaining({ op: 'Tanh', outcome: 'float', reason: 'no integer kernel' }),
    );
  });

  test('MatMul of a batch gives floats', async () => {
    const source = model([2, 5, 8], {
      nodes: [
        { opType: 'MatMul', inputs: ['x', 'w'], outputs: ['m'] },
        { opType: 'Add', inputs: ['m', 'b'], outputs: ['y'] },
      ],
      initializers: { w: noise([8, 16]), b: noise([16]) },
    });
    const { model: result } = await quantize(source, samples([2, 5, 8], 20));
    expect(await sqnrDb(source, result, samples([2, 5, 8], 6))).toBeGreaterThan(30);
    expect(Object.fromEntries(await kernels(result))).toEqual({ QuantizeLinear: 1, MatMulIntegerToFloat: 1, Add: 1 });
  });

  test('a residual sum, a pool and a one-dimensional convolution run on integers', async () => {
    const source = model([1, 4, 20], {
      nodes: [
        conv(['x', 'w1'], 'a', { pads: { ints: [1, 1] } }),
        unary('Relu', 'a', 'r'),
        { ...unary('MaxPool', 'r', 'p'), attributes: { kernel_shape: { ints: [2] }, strides: { ints: [2] } } },
        conv(['p', 'w2'], 'b', { pads: { ints: [1, 1] } }),
        { opType: 'Add', inputs: ['b', 'p'], outputs: ['s'] },
        unary('Relu', 's', 't'),
        conv(['t', 'w2'], 'c'),
        unary('Softplus', 'c', 'y'),
      ],
      initializers: { w1: noise([6, 4, 3]), w2: noise([6, 6, 3]) },
    });
    const { model: result } = await quantize(source, samples([1, 4, 20], 20));
    expect(await sqnrDb(source, result, samples([1, 4, 20], 6))).toBeGreaterThan(24);
    expect(Object.fromEntries(await kernels(result))).toMatchObject({ QLinearConv: 3, QLinearAdd: 1, NhwcMaxPool: 1 });
  });

  test('what the recipe keeps stays float, by order, name and operator', async () => {
    const { notes } = await quantize(
      block,
      samples([1, 3, 12, 10], 20),
      int8(', keepFirst: 2, exclude: [GlobalAveragePool]'),
    );
    const floats = notes.filter(
      ({ outcome, op }) => outcome === 'float' && (op === 'Conv' || op === 'GlobalAveragePool'),
    );
    const first = 'one of the first convolutions, which cost accuracy and gain little';
    expect(floats.map(({ op, reason }) => [op, reason])).toEqual([
      ['Conv', first],
      ['Conv', first],
      ['GlobalAveragePool', 'excluded by the recipe'],
    ]);
  });

  test('#22 dead channels, equal weights and an outlier quantize to something finite', async () => {
    const w = new Float32Array(4 * 3);
    w.set([1e-38, 0, 1e-40], 3);
    w.set([2, 2, 2], 6);
    w.set([1e30, 1, -1], 9);
    const source = model([1, 3, 4, 4], {
      nodes: [conv(['x', 'w', 'b'], 'y')],
      initializers: { w: tensorFromFloats([4, 3, 1, 1], w), b: noise([4]) },
    });
    const data = samples([1, 3, 4, 4], 4);
    const { model: result } = await quantize(source, data);
    const session = await openModelSession(result);
    const out = (await session.run(data[0] ?? {}))['y'];
    await session.close();
    expect(numbers(out).every(Number.isFinite)).toBe(true);
  });

  test('the same samples give the same bytes', async () => {
    const data = samples([1, 3, 12, 10], 8);
    const [first, second] = [await quantize(block, data), await quantize(block, data)];
    expect(encodeModel(first.model)).toEqual(encodeModel(second.model));
  });
});

describe('dynamic int8', () => {
  test('MatMul and Gemm become DynamicQuantizeMatMul, Conv keeps its kernel and sheds its floats', async () => {
    const source = model([2, 3, 4, 4], {
      nodes: [
        conv(['x', 'w'], 'c'),
        { opType: 'Reshape', inputs: ['c', 'shape'], outputs: ['f'] },
        { opType: 'MatMul', inputs: ['f', 'm'], outputs: ['a'] },
        { opType: 'Gemm', inputs: ['a', 'g', 'b'], outputs: ['y'], attributes: { transB: { int: 1 } } },
      ],
      initializers: {
        w: noise([5, 3, 1, 1]),
        shape: tensorFromInts('int64', [2], [-1, 80]),
        m: noise([80, 32]),
        g: noise([7, 32]),
        b: noise([7]),
      },
    });
    const recipe =
      'name: t\npasses: [{ recipe: clean }, { pass: analyze }, { pass: quantize-int8-dynamic, storeConv: true }]';
    const data = samples([2, 3, 4, 4], 4);
    const { model: result } = await quantize(source, data, recipe);
    expect(await sqnrDb(source, result, data)).toBeGreaterThan(28);
    expect(Object.fromEntries(await kernels(result))).toMatchObject({ DynamicQuantizeMatMul: 2, Conv: 1 });
    expect(encodeModel(result).length).toBeLessThan(encodeModel(source).length * 0.6);
  });
});

describe('bad calibration data', () => {
  const bad = (inputs: Tensors[]) => quantize(block, inputs);
  test('#23 none at all', async () => {
    await expect(bad([])).rejects.toMatchObject({
      code: 'compiler/calibration',
      message: expect.stringContaining('empty'),
    });
    await expect(applyRecipe(block, parseRecipe(int8()))).rejects.toMatchObject({ code: 'compiler/calibration' });
    // Nor does what the rewrites are checked on, perhaps the evaluation's, ever become calibration.
    const checkData = {
      async *samples() {
        for (const inputs of samples([1, 3, 12, 10], 4)) yield { inputs };
      },
    };
    await expect(applyRecipe(block, parseRecipe(int8()), { checkData })).rejects.toMatchObject({
      code: 'compiler/calibration',
    });
  });
  test.each<[string, Tensors, RegExp]>([
    [
      'another shape',
      { x: { dtype: 'float32', dims: [1, 4, 12, 10], data: new Float32Array(480) } },
      /\[1, 4, 12, 10\]/,
    ],
    ['another type', { x: { dtype: 'int32', dims: [1, 3, 12, 10], data: new Int32Array(360) } }, /as int32/],
    ['no such input', { z: { dtype: 'float32', dims: [1], data: new Float32Array(1) } }, /no input "x"/],
    ['NaN', { x: { dtype: 'float32', dims: [1, 3, 12, 10], data: new Float32Array(360).fill(Number.NaN) } }, /NaN/],
  ])('#23 %s', async (_name, sample, message) => {
    await expect(bad([sample])).rejects.toMatchObject({
      code: 'compiler/calibration',
      message: expect.stringMatching(message),
    });
  });
  test('#23 one sample is taken with a warning', async () => {
    const { warnings } = await quantize(block, samples([1, 3, 12, 10], 1));
    expect(warnings).toEqual([expect.stringContaining('1 calibration sample')]);
  });
});

test.each([Number.NaN, Number.POSITIVE_INFINITY])('#21 #22 weights that hold %d are refused by name', async (value) => {
  const source = model([1, 3, 4, 4], {
    nodes: [conv(['x', 'w'], 'y')],
    initializers: { w: tensorFromFloats([1, 3, 1, 1], Float32Array.of(1, value, 2)) },
  });
  await expect(quantize(source, samples([1, 3, 4, 4], 2))).rejects.toMatchObject({
    code: 'compiler/weights',
    message: `w holds ${value} at index 1`,
  });
});
