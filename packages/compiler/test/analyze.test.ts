import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { applyRecipe, inspect, parseRecipe } from '@flotilla/compiler';
import { buildModel, type NewNode, tensorFromFloats, tensorFromInts, tensorInfo, writeModel } from '@flotilla/onnx';
import { encodeNpz, type TensorValue } from '@flotilla/runtime';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { DistributionWatch } from '../src/analyze/distribution.ts';
import { activationLosses, weightLosses } from '../src/analyze/losses.ts';
import { TensorReader } from '../src/analyze/read-tensors.ts';
import { seededRandom } from '../src/calibrate/seeded-random.ts';

const watchOf = (values: readonly number[], dims = [values.length], axis = 0): DistributionWatch => {
  const watch = new DistributionWatch();
  watch.observe(Float32Array.from(values), dims, axis);
  return watch;
};

describe('a distribution', () => {
  test('has the moments of the textbook: 2, 4, 4, 4, 5, 5, 7, 9', () => {
    const { mean, std, skewness, kurtosis, sparsity } = watchOf([2, 4, 4, 4, 5, 5, 7, 9]).report(8);
    expect([mean, std]).toEqual([5, 2]);
    expect(skewness).toBeCloseTo(0.65625, 12); // Σ(x−5)³/8 = 5.25, over 2³
    expect(kurtosis).toBeCloseTo(2.78125, 12); // Σ(x−5)⁴/8 = 44.5, over 2⁴
    expect(sparsity).toBe(0);
  });

  test('is the same in one piece and in pieces of any shape, far from zero too', () => {
    const random = seededRandom(3);
    const all = Float32Array.from({ length: 6000 }, () => 1000 + random() ** 3);
    const whole = new DistributionWatch();
    whole.observe(all, [2, 3, 1000], 1);
    const parts = new DistributionWatch();
    for (const [start, end] of [
      [0, 600],
      [600, 603],
      [603, 6000],
    ] as const)
      parts.observe(all.subarray(start, end), [1, 3, (end - start) / 3], 1);
    const [a, b] = [whole.report(16), parts.report(16)];
    expect(b.std).toBeCloseTo(a.std, 9);
    expect(b.kurtosis).toBeCloseTo(a.kurtosis ?? Number.NaN, 6);

    expect(a.histogram.reduce((sum, n) => sum + n, 0)).toBe(6000);
  });

  test('names the outlier: channel, place, value; and the dead channel', () => {
    const values = Array.from({ length: 4 * 100 }, (_, i) => (i < 100 ? 0 : Math.sin(i)));
    values[2 * 100 + 7] = 50;
    const { outliers, farthest, channels } = watchOf(values, [4, 100]).report(8);
    expect(outliers).toBe(1);
    expect(farthest).toEqual([{ value: 50, at: [2, 7], channel: 2, sample: null, sigmas: expect.closeTo(19.3, 0) }]);
    expect(channels).toMatchObject({ axis: 0, count: 4, dead: [0] });
    expect(channels?.spread).toBeGreaterThan(40);
  });

  test.each<[string, number[], object]>([
    ['all zero', [0, 0, 0, 0], { min: 0, max: 0, std: 0, kurtosis: null, sparsity: 1, histogram: [4, 0, 0, 0] }],
    ['all equal', [3, 3, 3, 3], { min: 3, max: 3, std: 0, kurtosis: null, outliers: 0 }],
    ['one 1e38', [1e38, 1, -1, 0], { max: Math.fround(1e38), notFinite: 0, sparsity: 0.25 }],
    ['infinities and NaN', [Infinity, -Infinity, Number.NaN, 2], { notFinite: 3, min: 2, max: 2, count: 4 }],
    ['minus zero', [-0, 0, 1, -1], { sparsity: 0.5, mean: 0 }],
    ['nothing', [], { count: 0, min: 0, max: 0, histogram: [0, 0, 0, 0] }],
  ])('of weights that are %s is finite (#22)', (_, values, expected) => {
    const report = watchOf(values).report(4);
    expect(report).toMatchObject(expected);
    const numbers = JSON.stringify(report, (_key, value: unknown) =>
      typeof value === 'number' && !Number.isFinite(value) ? 'BAD' : value,
    );
    expect(numbers).not.toContain('BAD');
    const w = Float32Array.from(values);
    weightLosses(w, { rows: 1, cols: w.length, inner: 1 }, 1);
  });
});

test('the pass analyze names what is remarkable about the weights, and nothing else', async () => {
  const plain = Float32Array.from({ length: 64 * 8 }, (_, i) => Math.sin(i * 0.7));
  const odd = plain.slice();
  odd[5 * 8 + 3] = 60; // MatMul [64, 8]: row 5, output channel 3
  for (let row = 0; row < 64; row++) odd[row * 8 + 6] = 0;
  const model = buildModel({
    opset: 17,
    inputs: [tensorInfo('x', 'float32', [1, 64])],
    outputs: [tensorInfo('y', 'float32', [1, 8]), tensorInfo('z', 'float32', [1, 8])],
    nodes: [
      { opType: 'MatMul', inputs: ['x', 'w'], outputs: ['y'], name: 'plain' },
      { opType: 'MatMul', inputs: ['x', 'v'], outputs: ['z'], name: 'odd' },
    ],
    initializers: { w: tensorFromFloats([64, 8], plain), v: tensorFromFloats([64, 8], odd) },
  });
  const { analysis } = await applyRecipe(model, parseRecipe('name: t\npasses: [{ pass: analyze }]'));
  const farthest = { value: 60, at: [5, 3] };
  expect(analysis).toMatchObject({ weights: 2, remarkable: [{ node: 'odd', outliers: 1, farthest, deadChannels: 1 }] });
  expect(analysis?.remarkable).toHaveLength(1);
  expect(analysis?.foretold).toMatchObject([{ format: 'int8' }, { format: 'int4', worst: 'odd' }]);
  // Both fit the sample, so what is foretold is what `inspect` says of the whole.
  const whole = weightLosses(
    odd,
    { rows: 1, cols: 64, inner: 8 },
    odd.reduce((sum, value) => sum + value ** 2, 0),
  );
  const [int8, int4] = analysis?.foretold ?? [];
  expect([int8?.worst, int8?.worstDb, int4?.worstDb]).toEqual(['odd', whole.int8, whole.int4]);
});

test('beyond its bytes an analysis reads the first rows only, and counts what it left', () => {
  let read = 0;
  const values = Float32Array.from({ length: 1024 * 256 }, (_, i) => i);
  const all = new Uint8Array(values.buffer);
  const tensor = {
    name: 'w',
    dtype: 'float32' as const,
    dims: [1024, 256],
    byteLength: all.length,
    bytes: () => all,
    openFile: () => undefined,
    part(start: number, end: number) {
      read += end - start;
      return all.subarray(start, end);
    },
  };
  const reader = new TensorReader(all.length);
  expect(reader.read(tensor)).toMatchObject({ dims: [1024, 256], sampled: false });
  expect(reader.sampledBytes).toBe(0);
  const { values: some, dims, sampled } = reader.read(tensor);
  expect([dims, sampled, reader.sampledBytes]).toEqual([[512, 256], true, all.length]);
  expect(read).toBe(some.byteLength);
  expect(some).toEqual(values.subarray(0, 1 << 17));
});

test('what a format would lose of an activation is foretold from its histogram', () => {
  const random = seededRandom(5);
  const values = Float32Array.from({ length: 20_000 }, () => Math.max(0, random() * 3 - 1) * (1 + random()));
  const watch = new DistributionWatch();
  watch.observe(values, [20_000], 0);
  const scale = Math.max(...values) / 255;
  let [signal, error] = [0, 0];
  for (const x of values) {
    signal += x * x;
    error += (x - Math.round(x / scale) * scale) ** 2;
  }
  const { int8, int4 } = activationLosses(watch);
  expect(int8).toBeCloseTo(10 * Math.log10(signal / error), 0);
  expect(int4).toBeLessThan((int8 ?? 0) - 15);
});

describe('inspect --data', () => {
  let dir = '';
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'analyze-'));
    await writeModel(branching(), join(dir, 'net.onnx'));
    for (const set of ['data', 'nan', 'empty']) await mkdir(join(dir, set));
    for (let i = 0; i < 3; i++) await writeFile(join(dir, 'data', `${i}.npz`), encodeNpz({ x: sample(i, 4 + i) }));
    await writeFile(join(dir, 'nan', '0.npz'), encodeNpz({ x: sample(0, 4, Number.NaN) }));
  });
  afterAll(() => rm(dir, { recursive: true }));

  test('watches every float value over samples of varying shape, in the branches of an If too', async () => {
    const { activations } = await inspect(join(dir, 'net.onnx'), { data: join(dir, 'data'), channels: true });
    const byName = new Map(activations?.values.map((value) => [value.name, value]));
    expect(activations?.samples).toBe(3);
    expect(byName.get('x')).toMatchObject({ op: 'input', count: 3 * (4 + 5 + 6) });
    // Channel 1 of x is 1000 at sample 2, and channel 2 of the convolution never opens.
    expect(byName.get('x')?.max).toBe(1000);
    const relu = byName.get('relu');
    expect(relu).toMatchObject({ op: 'Relu', channels: { axis: 1, count: 3, dead: [2] } });
    expect(relu?.channels?.facts?.max).toHaveLength(3);
    expect(byName.get('y#0/half')).toMatchObject({ op: 'Mul', count: 45 });
    expect(byName.has('y#1/twice')).toBe(false); // the branch that was never taken
  });

  test.each([
    ['NaN in it', 'nan', 'compiler/data', 'x[0] is not a finite number'],
    ['no sample', 'empty', 'compiler/data', 'holds no .npz'],
    ['no such folder', 'nowhere', 'compiler/data', 'no such data'],
  ])('refuses data with %s (#23)', async (_, set, code, words) => {
    const found = inspect(join(dir, 'net.onnx'), { data: join(dir, set) });
    await expect(found).rejects.toMatchObject({ code, message: expect.stringContaining(words) as string });
  });
});

function sample(index: number, length: number, first?: number): TensorValue {
  const data = Float32Array.from({ length: 3 * length }, (_, i) => Math.cos(i + index));
  if (index === 2) data[length + 1] = 1000;
  if (first !== undefined) data[0] = first;
  return { dtype: 'float32', dims: [1, 3, length], data };
}

/** A convolution whose third channel is always negative, and an `If` that always takes its first branch. */
function branching() {
  const scaled = (name: string, by: string): NewNode[] => [
    { opType: 'Mul', inputs: ['relu', by], outputs: [name], name: `${name}_node` },
  ];
  const branch = (name: string, by: string) => ({
    graph: { inputs: [], outputs: [tensorInfo(name, 'float32', [1, 3, 'n'])], nodes: scaled(name, by) },
  });
  const identity = [1, 0, 0, 0, 1, 0, 0, 0, 0];
  return buildModel({
    opset: 17,
    inputs: [tensorInfo('x', 'float32', [1, 3, 'n'])],
    outputs: [tensorInfo('y', 'float32', undefined)],
    nodes: [
      { opType: 'Conv', inputs: ['x', 'w', 'b'], outputs: ['conv'], name: 'conv' },
      { opType: 'Relu', inputs: ['conv'], outputs: ['relu'], name: 'relu' },
      { opType: 'ReduceMax', inputs: ['relu'], outputs: ['top'], attributes: { keepdims: { int: 0 } } },
      { opType: 'Less', inputs: ['top', 'limit'], outputs: ['small'] },
      {
        opType: 'If',
        inputs: ['small'],
        outputs: ['y'],
        attributes: { then_branch: branch('half', 'h'), else_branch: branch('twice', 't') },
      },
    ],
    initializers: {
      w: tensorFromFloats([3, 3, 1], identity),
      b: tensorFromFloats([3], [0, 0, -1]),
      h: tensorFromFloats([], [0.5]),
      t: tensorFromFloats([], [2]),
      limit: tensorFromFloats([], [1e6]),
      unused: tensorFromInts('int64', [1], [1]),
    },
  });
}
