import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { buildModel, type Model, tensorFromFloats } from '@flotilla/onnx';
import { chooseRange } from '@flotilla/quant';
import type { Tensors } from '@flotilla/runtime';
import { describe, expect, test } from 'vitest';
import type { Calibration } from '../src/calibrate/calibration.ts';
import { seededRandom } from '../src/calibrate/seeded-random.ts';
import { openModelSession } from '../src/calibrate/model-session.ts';
import { observe } from '../src/calibrate/observe.ts';

/** `y = Relu(x + 0.5)`, `z = 2 · y`: values whose distribution is known without a run. */
const model: Model = buildModel({
  opset: 21,
  inputs: [{ name: 'x', type: { dtype: 'float32', dims: ['n', 'w'] } }],
  outputs: [{ name: 'z', type: undefined }],
  nodes: [
    { opType: 'Add', inputs: ['x', 'half'], outputs: ['s'] },
    { opType: 'Relu', inputs: ['s'], outputs: ['y'] },
    { opType: 'Add', inputs: ['y', 'y'], outputs: ['z'] },
  ],
  initializers: { half: tensorFromFloats([], Float32Array.of(0.5)) },
});

function measure(samples: Iterable<Tensors>, most = 1000): Promise<Calibration> {
  const context = {
    async *samples() {
      yield* samples;
    },
    open: openModelSession,
    signal: undefined,
    progress: () => {},
  };
  return observe(model, ['x', 'y', 'z'], context, { most });
}

const sample = (rows: number, columns: number, seed: number): Tensors => {
  const random = seededRandom(seed);
  const data = Float32Array.from({ length: rows * columns }, () => (random() + random() + random() - 1.5) * 2);
  return { x: { dtype: 'float32', dims: [rows, columns], data } };
};

function* sampleEach(count: number, rows: number, columns: number): Iterable<Tensors> {
  for (let k = 0; k < count; k++) yield sample(rows, columns, k + 1);
}

describe('calibration', () => {
  test('of a value larger than what is counted, ends are exact and shares hold', async () => {
    const one = sample(300, 1000, 5);
    const histogram = (await measure([one])).histogram('y');
    const y = Float32Array.from(one['x']?.data as Float32Array, (value) => Math.max(0, value + 0.5)).toSorted();
    expect(histogram).toMatchObject({ count: 300_000, min: 0, max: y.at(-1) });
    expect(histogram?.bins.reduce((a, b) => a + b)).toBeCloseTo(300_000, 0);
    if (!histogram) return;
    const { max } = chooseRange(histogram, 'percentile', { percentile: 99 });
    expect(max).toBeGreaterThan(y[Math.floor(0.9925 * y.length)] ?? 0);
    expect(max).toBeLessThan(y[Math.floor(0.9975 * y.length)] ?? 0);
  });

  test('batches of any size and shapes that vary give the same distribution', async () => {
    const rows = Array.from({ length: 12 }, (_, k) => sample(1, 40, k + 1));
    const all = Float32Array.from(rows.flatMap(({ x }) => Array.from(x?.data as Float32Array)));
    const shaped = (sizes: readonly number[]) => {
      let at = 0;
      return sizes.map((size): Tensors => {
        const data = all.slice(at, (at += size * 40));
        return { x: { dtype: 'float32', dims: [size, 40], data } };
      });
    };
    const alone = (await measure(rows)).histogram('z');
    expect((await measure(shaped([12]))).histogram('z')).toMatchObject({ count: 480, max: alone?.max });
    expect((await measure(shaped([1, 5, 6]))).histogram('z')?.bins.length).toBe(alone?.bins.length);
    const varied = Array.from({ length: 8 }, (_, k) => sample(k + 1, 10 + 3 * k, k));
    const seen = (await measure(varied)).histogram('y');
    expect(seen?.count).toBe(varied.reduce((sum, { x }) => sum + (x?.data.length ?? 0), 0));
  });

  test('a sample that leaves a value empty tells nothing and stops nothing', async () => {
    const empty: Tensors = { x: { dtype: 'float32', dims: [0, 4], data: new Float32Array(0) } };
    expect((await measure([empty, sample(2, 4, 1)])).histogram('y')).toMatchObject({ count: 8 });
  });

  test('memory does not grow with the samples', async () => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    const heldAfter = async (count: number): Promise<number> => {
      const calibration = await measure(sampleEach(count, 64, 256));
      expect(calibration.samples).toBe(count);
      // The engine's buffers are given back by finalizers, which run when they like.
      let held = Infinity;
      for (let turn = 0; turn < 10; turn++) {
        collect();
        await new Promise((resolve) => setImmediate(resolve));
        held = Math.min(held, process.memoryUsage().arrayBuffers);
      }
      return held;
    };
    await heldAfter(2);
    const few = await heldAfter(4);
    // 120 samples are 7.8 MB, three times over: what grew with them would be 23 MB more.
    expect((await heldAfter(120)) - few).toBeLessThan(6 << 20);
  });

  test('#23 an activation that is not finite is refused with its sample and name', async () => {
    const bad: Tensors = { x: { dtype: 'float32', dims: [1, 2], data: Float32Array.of(1, 3e38) } };
    await expect(measure([sample(1, 2, 1), bad])).rejects.toMatchObject({
      code: 'compiler/calibration',
      message: expect.stringContaining('sample 1: in z'),
    });
  });
});
