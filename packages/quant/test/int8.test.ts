import {
  adaround,
  biasScale,
  chooseRange,
  dequantizeInt8,
  hardSwishRange,
  pairSafeScale,
  roundWithFeedback,
  leastWeightScale,
  quantizeBias,
  quantizeInt8,
  RangeHistogram,
  roundHalfEven,
  symmetricUint8Range,
  uint8Range,
} from '@flotilla/quant';
import { describe, expect, test } from 'vitest';

test('ties go to the even side', () => {
  expect([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5].map(roundHalfEven)).toEqual([-2, -2, 0, 0, 2, 2]);
});

describe('quantizeInt8', () => {
  test('scales each channel by its own peak', () => {
    const { q, scale } = quantizeInt8(Float32Array.of(1, -0.5, 0.25, 10, -127, 63.5), 2);
    expect([...q]).toEqual([127, -64, 32, 10, -127, 64]);
    expect([...scale]).toEqual([Math.fround(1 / 127), 1]);
  });
  test('channels last', () => {
    const { q, scale } = quantizeInt8(Float32Array.of(1, 127, -1, 254), 2, { inner: 1 });
    expect([...q]).toEqual([127, 64, -127, 127]);
    expect([...scale]).toEqual([Math.fround(1 / 127), 2]);
  });
  test('7 bits end at ±64', () => {
    expect([...quantizeInt8(Float32Array.of(-1, 1, 0.5), 1, { bits: 7 }).q]).toEqual([-64, 64, 32]);
  });
  test('#22 all zero, all equal, an outlier, −0 and subnormals stay finite', () => {
    const w = Float32Array.of(0, 0, -0, 3, 3, 3, 1e38, 1, -1, 1e-44, 1e-45, 0);
    const rows = quantizeInt8(w, 4);
    const back = dequantizeInt8(rows, 3);
    expect(rows.scale[0]).toBe(1);
    expect(rows.scale[3]).toBe(1);
    expect([...back.subarray(3, 6)]).toEqual([3, 3, 3].map((v) => expect.closeTo(v, 5)));
    expect(back.every(Number.isFinite)).toBe(true);
  });
  test.each([Number.NaN, Number.POSITIVE_INFINITY])('#21 #22 refuses %d, naming the index', (bad) => {
    expect(() => quantizeInt8(Float32Array.of(1, bad), 1)).toThrow(/weight 1/);
  });
  test('refuses channels that do not divide', () => {
    expect(() => quantizeInt8(new Float32Array(5), 2)).toThrow(/5 weights/);
  });
});

describe('ranges', () => {
  test('hold 0 exactly', () => {
    expect(uint8Range({ min: 1, max: 255 })).toEqual({ scale: 1, zeroPoint: 0 });
    expect(uint8Range({ min: -255, max: -1 })).toEqual({ scale: 1, zeroPoint: 255 });
    expect(uint8Range({ min: 0, max: 0 })).toEqual({ scale: 1, zeroPoint: 0 });
  });
  test.each([0, 0.1, 3, 5.5, 20, 400])('the hard-swish gate is exact at maximum %d', (max) => {
    const { scale, zeroPoint } = hardSwishRange(max, 1 / 6);
    expect(scale * zeroPoint).toBeCloseTo(3, 6); // q = 0 stands for −3
    expect((2 * zeroPoint * scale) / 6).toBeCloseTo(1, 6); // the gate's top is 1
    expect(2 * zeroPoint).toBeLessThanOrEqual(255);
    expect((255 - zeroPoint) * scale).toBeGreaterThanOrEqual(max * 0.999);
  });
});

describe('bias', () => {
  test('is a whole number of sums', () => {
    expect([...quantizeBias(Float32Array.of(1, -2), 0.5, Float32Array.of(0.25, 0.5))]).toEqual([8, -8]);
    expect(biasScale(0.5, 0.25)).toBe(0.125);
  });
  test('that would overflow raises the weight scale instead', () => {
    const bias = Float32Array.of(100);
    expect(() => quantizeBias(bias, 1e-3, Float32Array.of(1e-9))).toThrow(/bias 0/);
    const awkward = Float32Array.of(-0.4507720172405243, 1.1, 3.3e-5);
    expect(() => quantizeBias(awkward, 0.0123, leastWeightScale(awkward, 0.0123))).not.toThrow();
    const scale = leastWeightScale(bias, 1e-3);
    expect(Math.abs(quantizeBias(bias, 1e-3, scale)[0] ?? 0)).toBeGreaterThan(2 ** 29);
  });
});

describe('RangeHistogram', () => {
  test('keeps count, ends and mean exactly while it widens', () => {
    const histogram = new RangeHistogram();
    for (const part of [[0, 0], [0.001, -0.002], [5, -1], [1000]]) histogram.observe(Float32Array.from(part));
    expect(histogram).toMatchObject({ count: 7, min: -1, max: 1000 });
    expect(histogram.mean).toBeCloseTo(1003.999 / 7, 4);
    expect(histogram.bins.reduce((a, b) => a + b)).toBe(7);
    expect(histogram.width * 2048).toBeGreaterThan(1000);
  });
  test('holds the same whether samples come whole or in parts', () => {
    const values = Float32Array.from({ length: 5000 }, (_, i) => Math.sin(i) * (1 + i / 100));
    const parts = new RangeHistogram();
    for (let i = 0; i < values.length; i += 7) parts.observe(values.subarray(i, i + 7));
    const merged = new RangeHistogram();
    for (const piece of [values.subarray(0, 100), values.subarray(100)]) {
      const one = new RangeHistogram();
      one.observe(piece);
      merged.merge(one);
    }
    for (const histogram of [parts, merged]) {
      expect(histogram.count).toBe(5000);
      const { min, max } = chooseRange(histogram, 'percentile', { percentile: 98 });
      const sorted = [...values].sort((a, b) => a - b);
      expect(Math.abs(min - (sorted[50] ?? 0))).toBeLessThan(2 * histogram.width);
      expect(Math.abs(max - (sorted[4949] ?? 0))).toBeLessThan(2 * histogram.width);
    }
  });
  test('#23 refuses NaN and keeps what it had', () => {
    const histogram = new RangeHistogram();
    histogram.observe(Float32Array.of(1));
    expect(() => histogram.observe(Float32Array.of(2, Number.NaN))).toThrow(/value 1 is NaN/);
    expect(histogram).toMatchObject({ count: 1, max: 1 });
  });
});

describe('observers', () => {
  const histogram = new RangeHistogram();
  // A bell of 100,000 values and one value far out.
  const bell = Float32Array.from({ length: 100_000 }, (_, i) => {
    const u = (i + 0.5) / 100_000;
    return Math.log(u / (1 - u));
  });
  histogram.observe(bell);
  histogram.observe(Float32Array.of(500));
  test('min-max keeps the outlier, the others drop it', () => {
    expect(chooseRange(histogram, 'min-max').max).toBe(500);
    expect(chooseRange(histogram, 'percentile', { percentile: 99.99 }).max).toBeLessThan(15);
    expect(chooseRange(histogram, 'mse').max).toBeLessThan(490);
    expect(chooseRange(histogram, 'entropy').max).toBeLessThan(150);
  });
  test('a one-sided tensor keeps its closed side', () => {
    const relu = new RangeHistogram();
    relu.observe(bell.map((value) => Math.max(0, value)));
    for (const observer of ['min-max', 'percentile', 'mse', 'entropy'] as const)
      expect(chooseRange(relu, observer).min).toBeCloseTo(0, 1);
  });
  test('nothing observed is an error, all zero is not', () => {
    expect(() => chooseRange(new RangeHistogram(), 'mse')).toThrow(/no values/);
    const zeros = new RangeHistogram();
    zeros.observe(new Float32Array(3));
    expect(chooseRange(zeros, 'entropy')).toEqual({ min: 0, max: 0 });
  });
});

describe('pairs that cannot overflow 16 bits', () => {
  const w = Float32Array.from({ length: 4 * 18 }, (_, i) => Math.sin(i * 2.3) * (1 + (i % 5)));
  test.each([
    [
      'images, as they lie and depth innermost',
      { kernel: 9 },
      (c: number, i: number) => c * 18 + (i % 2) * 9 + Math.floor(i / 2),
      1,
    ],
    ['images as they lie', { kernel: 9 }, (c: number, i: number) => c * 18 + i, 1],
    ['matrices with channels last', { channelsLast: true }, (c: number, i: number) => i * 4 + c, 0],
  ])('%s', (_name, options, at, first) => {
    const inner = first === 1 ? 18 : 1;
    const { q, scale } = quantizeInt8(w, 4, { inner, leastScale: pairSafeScale(w, 4, options) });
    let most = 0;
    for (let c = 0; c < 4; c++)
      for (let i = 1; i < 18; i++) most = Math.max(most, Math.abs((q[at(c, i)] ?? 0) + (q[at(c, i - 1)] ?? 0)));
    expect(most * 255).toBeLessThanOrEqual(32767);
    // More than 7 bits are left to most channels.
    const reduced = quantizeInt8(w, 4, { inner, bits: 7 }).scale;
    expect([...scale].every((value, c) => value <= (reduced[c] ?? 0) * 1.01)).toBe(true);
  });
});

describe('roundWithFeedback', () => {
  const [rows, depth, count] = [6, 24, 200];
  const wave = (i: number) => Math.sin(i * 12.9898) * 43758.5453 - Math.floor(Math.sin(i * 12.9898) * 43758.5453) - 0.5;
  // Inputs that go together: a few sources, mixed.
  const x = Array.from({ length: count }, (_, n) =>
    Array.from({ length: depth }, (_d, k) => wave(n * 3 + (k % 3)) + 0.2 * wave(7000 + n * depth + k)),
  );
  const gram = new Float64Array(depth * depth);
  for (const input of x)
    for (let i = 0; i < depth; i++)
      for (let j = 0; j < depth; j++) gram[i * depth + j]! += (input[i] ?? 0) * (input[j] ?? 0);
  const w = Float32Array.from({ length: rows * depth }, (_, i) => wave(900 + i));
  const { q, scale } = quantizeInt8(w, rows, { bits: 7 });
  const error = (integers: Int8Array) => {
    let sum = 0;
    for (const input of x)
      for (let r = 0; r < rows; r++) {
        let e = 0;
        for (let k = 0; k < depth; k++)
          e += ((integers[r * depth + k] ?? 0) * (scale[r] ?? 1) - (w[r * depth + k] ?? 0)) * (input[k] ?? 0);
        sum += e * e;
      }
    return sum;
  };
  test('makes the product better than rounding to nearest does', () => {
    expect(error(roundWithFeedback(w, scale, gram, { most: 64 }))).toBeLessThan(error(q) * 0.4);
  });
  test('inputs that tell nothing leave rounding to nearest', () => {
    const apart = new Float64Array(depth * depth);
    for (let i = 0; i < depth; i++) apart[i * depth + i] = 1;
    expect(roundWithFeedback(w, scale, apart, { most: 64 })).toEqual(q);
    expect(roundWithFeedback(w, scale, new Float64Array(depth * depth), { most: 64 })).toEqual(q);
  });
  test('keeps to the bounds', () => {
    const tight = roundWithFeedback(
      w,
      scale.map((value) => value / 2),
      gram,
      { pairMost: 100 },
    );
    for (let i = 0; i < tight.length; i++) {
      expect(Math.abs(tight[i] ?? 0)).toBeLessThanOrEqual(127);
      if (i % depth > 0) expect(Math.abs((tight[i] ?? 0) + (tight[i - 1] ?? 0))).toBeLessThanOrEqual(100);
    }
  });
  test('refuses a Gram matrix of another size', () => {
    expect(() => roundWithFeedback(w, scale, new Float64Array(4))).toThrow(/Gram/);
  });
});

describe('observers against values worked out otherwise', () => {
  const observed = (samples: readonly (readonly number[])[], averaging?: number) => {
    const histogram = new RangeHistogram(averaging);
    for (const values of samples) histogram.observe(Float32Array.from(values));
    return histogram;
  };
  test('percentile: of 1 … 1000, 99 % leaves out five at each end', () => {
    const { min, max } = chooseRange(observed([Array.from({ length: 1000 }, (_, i) => i + 1)]), 'percentile', {
      percentile: 99,
    });
    expect(min).toBeGreaterThan(5);
    expect(min).toBeLessThan(6.5);
    expect(max).toBeGreaterThan(994.5);
    expect(max).toBeLessThan(996.5);
  });
  test('moving average: 0…1, then −1…3 and 1…5 at a half each', () => {
    // −1 and 0 average to −0.5, with 1 to 0.25; 1 and 3 to 2, with 5 to 3.5.
    const histogram = observed(
      [
        [0, 1],
        [-1, 0.2, 3],
        [1, 5],
      ],
      0.5,
    );
    expect(chooseRange(histogram, 'moving-average')).toEqual({ min: 0.25, max: 3.5 });
    expect(chooseRange(histogram, 'min-max')).toEqual({ min: -1, max: 5 });
  });
  test('mse: no interval of a fine search over real roundings is much better', () => {
    const values = Array.from({ length: 4000 }, (_, i) => Math.sinh(((i + 0.5) / 4000 - 0.5) * 9) / 8);
    const found = chooseRange(observed([[...values, 60]]), 'mse');
    const errorOf = (low: number, high: number) => {
      const step = (high - low) / 255;
      const error = (v: number) => v - Math.max(low, Math.min(high, low + Math.round((v - low) / step) * step));
      return [...values, 60].reduce((sum, v) => sum + error(v) ** 2, 0);
    };
    let best = Number.POSITIVE_INFINITY;
    for (let max = 1; max <= 60; max *= 1.03)
      for (let min = -1; min >= -6; min *= 1.03) best = Math.min(best, errorOf(min, max));
    expect(errorOf(found.min, found.max)).toBeLessThan(best * 1.1);
  });
  test('entropy: what already lies on 256 steps loses nothing over the whole interval', () => {
    const steps = Array.from({ length: 256 }, (_, i) => i);
    const even = chooseRange(observed([steps.flatMap((i) => Array<number>(40).fill(i))]), 'entropy');
    expect(even.max).toBeGreaterThan(250);
    // A long thin tail costs more steps than it is worth: Migacz's case.
    const tail = Array.from({ length: 30_000 }, (_, i) => -Math.log((i + 0.5) / 30_000));
    const cut = chooseRange(observed([[...tail, 400]]), 'entropy');
    expect(cut.max).toBeLessThan(60);
    expect(cut.max).toBeGreaterThan(5);
  });
});

describe('adaround', () => {
  const gram = Float64Array.of(1, 0.9, 0.9, 1);
  const one = Float32Array.of(1);
  test('two weights that go together: one goes up for both, by hand', () => {
    // e = (0.4, 0.4) costs 0.608 rounded to nearest, (−0.6, 0.4) only 0.088.
    expect(adaround(Int8Array.of(0, 0), Float32Array.of(0.4, 0.4), one, gram, { damping: 1e-9 })).toEqual(
      Int8Array.of(1, 0),
    );
    // Opposite signs even each other out already.
    expect(adaround(Int8Array.of(0, 0), Float32Array.of(0.4, -0.4), one, gram)).toEqual(Int8Array.of(0, 0));
  });
  test('is never worse than where it began, and near the best of all roundings', () => {
    const [depth, count] = [8, 12];
    const wave = (i: number) => Math.sin(i * 78.233) * 43758.5453 - Math.floor(Math.sin(i * 78.233) * 43758.5453) - 0.5;
    const g = new Float64Array(depth * depth);
    for (let n = 0; n < count; n++)
      for (let i = 0; i < depth; i++)
        for (let j = 0; j < depth; j++)
          g[i * depth + j]! += (wave(n * 2) + wave(n * depth + i)) * (wave(n * 2) + wave(n * depth + j));
    const costOf = (w: Float32Array, q: ArrayLike<number>) => {
      let cost = 0;
      for (let i = 0; i < depth; i++)
        for (let j = 0; j < depth; j++)
          cost += ((w[i] ?? 0) - (q[i] ?? 0)) * (g[i * depth + j] ?? 0) * ((w[j] ?? 0) - (q[j] ?? 0));
      return cost;
    };
    let [nearest, found, best] = [0, 0, 0];
    for (let trial = 0; trial < 20; trial++) {
      const w = Float32Array.from({ length: depth }, (_, i) => wave(500 + trial * depth + i) * 20);
      const rounded = Int8Array.from(w, Math.round);
      const result = adaround(rounded, w, one, g, { damping: 1e-6 });
      expect(costOf(w, result)).toBeLessThanOrEqual(costOf(w, rounded) + 1e-9);
      nearest += costOf(w, rounded);
      found += costOf(w, result);
      let least = Number.POSITIVE_INFINITY;
      for (let bits = 0; bits < 1 << depth; bits++)
        least = Math.min(
          least,
          costOf(
            w,
            Array.from(w, (v, i) => Math.floor(v) + ((bits >> i) & 1)),
          ),
        );
      best += least;
    }
    expect(found - best).toBeLessThan(0.5 * (nearest - best));
  });
  test('keeps to its bounds, in both orders that kernels pack', () => {
    const w = Float32Array.from({ length: 18 }, () => 62.4);
    const g = new Float64Array(18 * 18).fill(1);
    for (let i = 0; i < 18; i++) g[i * 18 + i] = 1.2;
    const q = adaround(new Int8Array(18).fill(62), w, one, g, { pairMost: 125, kernel: 9 });
    const pairs = [];
    for (let i = 1; i < 18; i++) pairs.push((q[i] ?? 0) + (q[i - 1] ?? 0));
    for (let i = 0; i < 9; i++) pairs.push((q[i] ?? 0) + (q[i + 9] ?? 0));
    expect(Math.max(...pairs)).toBe(125);
    expect(q).not.toEqual(new Int8Array(18).fill(62));
    expect(() => adaround(q, w, one, new Float64Array(4))).toThrow(/Gram/);
  });
});

test('symmetric uint8: 128 is 0, the larger side reaches 127 steps, and what has no negative side starts at 0', () => {
  expect(symmetricUint8Range({ min: -2.54, max: 1 })).toEqual({ scale: Math.fround(2.54 / 127), zeroPoint: 128 });
  expect(symmetricUint8Range({ min: -1, max: 12.7 }).scale).toBeCloseTo(0.1, 7);
  expect(symmetricUint8Range({ min: 0, max: 2.55 })).toEqual(uint8Range({ min: 0, max: 2.55 }));
  expect(() => symmetricUint8Range({ min: Number.NaN, max: 1 })).toThrow();
});
