import { buildModel, floats, type Model, type NewModel, type NewTensor, tensorFromFloats } from '@flotilla/onnx';
import type { Tensors } from '@flotilla/runtime';
import { describe, expect, test } from 'vitest';
import { seededRandom } from '../src/calibrate/seeded-random.ts';
import { type Applied, applyRecipe, parseRecipe } from '../src/index.ts';

const random = seededRandom(23);
const vector = (...values: number[]): NewTensor => tensorFromFloats([values.length], Float32Array.from(values));
const tensor = (dims: readonly number[], ...values: number[]) => tensorFromFloats(dims, Float32Array.from(values));
const noise = (dims: readonly number[]): NewTensor =>
  tensorFromFloats(
    dims,
    Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => random() * 2 - 1),
  );

function model(dims: readonly (number | string)[], parts: Pick<NewModel, 'nodes' | 'initializers'>): Model {
  return buildModel({
    opset: 21,
    inputs: [{ name: 'x', type: { dtype: 'float32', dims } }],
    outputs: [{ name: 'y', type: undefined }],
    ...parts,
  });
}

/** The runner itself compares the result's outputs with the source's: a pass that changed them would throw. */
async function apply(source: Model, pass: string, samples: readonly Tensors[] = []): Promise<Applied> {
  return applyRecipe(source, parseRecipe(`name: t\npasses: [{ pass: ${pass} }]`), {
    calibrationData:
      samples.length === 0
        ? undefined
        : {
            async *samples() {
              for (const inputs of samples) yield { inputs };
            },
          },
  });
}

const weightOf = ({ model: { graph } }: Applied, output: string, index = 1): number[] => {
  const node = graph.producer(output);
  const constant = node && graph.constant(node.inputs[index] ?? '');
  return constant ? Array.from(floats(constant), (value) => Math.round(value * 1e4) / 1e4) : [];
};

describe('equalize', () => {
  test('both sides of each channel get the range √(r₁·r₂), by hand', async () => {
    // Channel 0: r₁ = 4, r₂ = 1, s = √(4/1) = 2. Channel 1: r₁ = 1, r₂ = 9, s = 1/3.
    const source = model([1, 2], {
      nodes: [
        { opType: 'Gemm', inputs: ['x', 'w1', 'b1'], outputs: ['h'] },
        { opType: 'Relu', inputs: ['h'], outputs: ['r'] },
        { opType: 'Gemm', inputs: ['r', 'w2'], outputs: ['y'] },
      ],
      initializers: {
        w1: tensor([2, 2], 4, 1, -2, 0.5),
        b1: vector(1, 3),
        w2: tensor([2, 3], 1, -0.5, 0.2, 9, 3, -6),
      },
    });
    const applied = await apply(source, 'equalize');
    expect(weightOf(applied, 'h')).toEqual([2, 3, -1, 1.5]);
    expect(weightOf(applied, 'h', 2)).toEqual([0.5, 9]);
    expect(weightOf(applied, 'y')).toEqual([2, -1, 0.4, 3, 1, -2]);
    expect(applied.notes).toHaveLength(1);
  });

  test('runs along depthwise convolutions, pooling and into a Gemm; a Clip ends it', async () => {
    const pads = { pads: { ints: [1, 1, 1, 1] } };
    const source = model([1, 3, 6, 6], {
      nodes: [
        { opType: 'Conv', inputs: ['x', 'w1', 'b1'], outputs: ['a'] },
        { opType: 'Relu', inputs: ['a'], outputs: ['ra'] },
        { opType: 'Conv', inputs: ['ra', 'w2'], outputs: ['b'], attributes: { group: { int: 4 }, ...pads } },
        { opType: 'LeakyRelu', inputs: ['b'], outputs: ['rb'] },
        { opType: 'Conv', inputs: ['rb', 'w3'], outputs: ['c'] },
        { opType: 'Clip', inputs: ['c', 'zero', 'six'], outputs: ['rc'] },
        { opType: 'Conv', inputs: ['rc', 'w4', 'b4'], outputs: ['d'] },
        { opType: 'GlobalAveragePool', inputs: ['d'], outputs: ['p'] },
        { opType: 'Flatten', inputs: ['p'], outputs: ['f'] },
        { opType: 'Gemm', inputs: ['f', 'w5'], outputs: ['y'] },
      ],
      initializers: {
        w1: noise([4, 3, 1, 1]),
        b1: noise([4]),
        w2: noise([4, 1, 3, 3]),
        w3: noise([5, 4, 1, 1]),
        w4: noise([6, 5, 1, 1]),
        b4: noise([6]),
        w5: noise([6, 2]),
        zero: tensorFromFloats([], Float32Array.of(0)),
        six: tensorFromFloats([], Float32Array.of(6)),
      },
    });
    const applied = await apply(source, 'equalize');
    expect(applied.notes.map(({ op }) => op)).toEqual(['Conv', 'Conv', 'Gemm']);
    expect(applied.rewriteCheck?.worst).toBeLessThan(1e-4);
    // Depthwise: what a channel's kernel and the weights that read it reach is one number.
    const [w2, w3] = [weightOf(applied, 'b'), weightOf(applied, 'c')];
    const peak = (values: readonly number[]) => Math.max(...values.map(Math.abs));
    for (let c = 0; c < 4; c++) {
      const given = peak(w2.slice(c * 9, c * 9 + 9));
      expect(peak(w3.filter((_, i) => i % 4 === c)) / given).toBeCloseTo(1, 1);
    }
    const shared = await apply(
      model([1, 3, 6, 6], {
        nodes: [
          { opType: 'Conv', inputs: ['x', 'w'], outputs: ['a'] },
          { opType: 'Conv', inputs: ['a', 'w'], outputs: ['y'] },
        ],
        initializers: { w: noise([3, 3, 1, 1]) },
      }),
      'equalize',
    );
    expect(shared.notes).toEqual([]);
  });
});

describe('smooth-quant', () => {
  const norm = (x: string, y: string) => ({ opType: 'LayerNormalization', inputs: [x, 'g', 'b'], outputs: [y] });
  const samples: Tensors[] = [1, 2, 3].map((k) => ({
    x: { dtype: 'float32', dims: [1, k, 2], data: Float32Array.from({ length: 2 * k }, (_, i) => i * i - 3 * k) },
  }));

  test('scales are max|x|^α / max|w|^(1−α), and go into the gain', async () => {
    // A norm of two elements gives (−1, 1) or (1, −1), so max|x| is |g|·1 + b: 16 and 1. max|w|: 1 and 4.
    const source = model([1, 'n', 2], {
      nodes: [
        norm('x', 'n'),
        { opType: 'MatMul', inputs: ['n', 'w1'], outputs: ['q'] },
        { opType: 'MatMul', inputs: ['n', 'w2'], outputs: ['k'] },
        { opType: 'Add', inputs: ['q', 'k'], outputs: ['y'] },
      ],
      initializers: { g: vector(16, 1), b: vector(0, 0), w1: tensor([2, 1], 1, 2), w2: tensor([2, 1], -0.5, -4) },
    });
    const applied = await apply(source, 'smooth-quant', samples);
    // s = √(16/1) = 4 and √(1/4) = 1/2.
    expect(weightOf(applied, 'n')).toEqual([4, 2]);
    expect(weightOf(applied, 'q').map((value) => Math.round(value))).toEqual([4, 1]);
    expect(weightOf(applied, 'k').map((value) => Math.round(value))).toEqual([-2, -2]);
    const other = await apply(source, 'smooth-quant, alpha: 1', samples);
    expect(weightOf(other, 'n').map((value) => Math.round(value))).toEqual([1, 1]);
  });

  test('a gated product takes it into one factor, a spelt-out norm into its gain, a gelu not at all', async () => {
    const source = model([1, 'n', 2], {
      nodes: [
        { opType: 'Mul', inputs: ['x', 'g'], outputs: ['n'] },
        { opType: 'MatMul', inputs: ['n', 'gate'], outputs: ['a'] },
        { opType: 'Sigmoid', inputs: ['a'], outputs: ['s'] },
        { opType: 'MatMul', inputs: ['n', 'up'], outputs: ['u'] },
        { opType: 'Mul', inputs: ['s', 'u'], outputs: ['m'] },
        { opType: 'MatMul', inputs: ['m', 'down'], outputs: ['d'] },
        { opType: 'Add', inputs: ['d', 'bias'], outputs: ['e'] },
        { opType: 'Gelu', inputs: ['e'], outputs: ['t'] },
        { opType: 'MatMul', inputs: ['t', 'last'], outputs: ['y'] },
      ],
      initializers: {
        g: vector(9, 0.1),
        gate: noise([2, 5]),
        up: noise([2, 5]),
        down: noise([5, 4]),
        bias: noise([4]),
        last: noise([4, 3]),
      },
    });
    const applied = await apply(source, 'smooth-quant', samples);
    expect(applied.notes).toHaveLength(3);
    expect(weightOf(applied, 'y')).toEqual(weightOf({ ...applied, model: source }, 'y'));
    expect(weightOf(applied, 'n')).not.toEqual([9, 0.1]);
  });

  test('#23 without samples it is refused', async () => {
    await expect(apply(model([1, 2], { nodes: [], initializers: {} }), 'smooth-quant')).rejects.toMatchObject({
      code: 'compiler/calibration',
    });
  });
});
