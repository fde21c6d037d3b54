import { readFileSync } from 'node:fs';
import { dequantizeInt4, packNibbles, quantizeInt4, unpackNibbles, unpackSignedNibbles } from '@flotilla/quant';
import { describe, expect, test } from 'vitest';

interface Case {
  rows: number;
  cols: number;
  inner: number;
  block: number;
  symmetric: boolean;
  w: number[];
  q: number[];
  scale: number[];
  zeroPoint: number[] | null;
  dequantized: number[];
}
const reference = JSON.parse(readFileSync(new URL('fixtures/int4-reference.json', import.meta.url), 'utf8')) as {
  cases: Case[];
};
const cases = reference.cases.map((c) => [`${c.rows}×${c.cols}×${c.inner}, block ${c.block}`, c] as const);

test.each(cases)('plain rounding of %s equals numpy’s, and dequantizing ONNX Runtime’s', (_, c) => {
  const blocks = quantizeInt4(Float32Array.from(c.w), { ...c, clip: 'none' });
  expect([...blocks.q]).toEqual(c.q);
  expect([...blocks.scale]).toEqual(c.scale);
  expect(blocks.zeroPoint ? [...blocks.zeroPoint] : null).toEqual(c.zeroPoint);
  expect([...dequantizeInt4(blocks, c)]).toEqual(c.dequantized);
});

test('by hand: levels −8…7 of step 1, ties to even, first element in the low nibble', () => {
  const w = Float32Array.of(7, -7, 0.5, 1.5, -2.5, 0);
  const { q, scale, zeroPoint } = quantizeInt4(w, { rows: 1, cols: 6, block: 6, symmetric: true, clip: 'none' });
  expect(scale).toEqual(Float32Array.of(1));
  expect([...unpackSignedNibbles(q, 6)]).toEqual([7, -7, 0, 2, -2, 0]);
  expect(q[0]).toBe(0x97);
  expect(zeroPoint).toBeUndefined();
});

test('the searched range never errs more than the full one, and less where a block has an outlier', () => {
  const w = Float32Array.from({ length: 256 }, (_, i) => Math.sin(i * 1.7) * (i % 64 === 5 ? 6 : 1));
  for (const symmetric of [false, true]) {
    const options = { rows: 4, cols: 64, block: 64, symmetric };
    const searched = squaredError(w, dequantizeInt4(quantizeInt4(w, options), options));
    const full = squaredError(w, dequantizeInt4(quantizeInt4(w, { ...options, clip: 'none' }), options));
    expect(searched).toBeLessThan(full * 0.95);
  }
});

describe('#22 weights at the edge give finite numbers', () => {
  const edges: [string, number[]][] = [
    ['all 0', [0, 0, 0, 0]],
    ['−0', [-0, -0, 0, 1]],
    ['all equal', [0.25, 0.25, 0.25, 0.25]],
    ['all equal, negative', [-3, -3, -3, -3]],
    ['one 1e38', [1e38, 1, -1, 0]],
    ['both ends of float32', [3.4e38, -3.4e38, 0, 1]],
    ['subnormal', [1e-44, -1e-44, 0, 0]],
  ];
  test.each(edges)('%s', (_, values) => {
    const w = Float32Array.from(values);
    for (const symmetric of [false, true]) {
      const options = { rows: 1, cols: 4, block: 4, symmetric };
      const blocks = quantizeInt4(w, options);
      const back = dequantizeInt4(blocks, options);
      const tiny = 15 * 2 ** -126; // steps below the smallest normal are stored as zeros
      const most = Math.max(...values.map(Math.abs));
      expect(blocks.scale[0]).toBeGreaterThan(0);
      back.forEach((value, i) => expect(Math.abs(value - w[i]!)).toBeLessThanOrEqual(Math.max(most / 7, tiny)));
    }
  });
  test.each([Number.NaN, Infinity, -Infinity])('%f is refused with its index', (bad) => {
    const w = Float32Array.of(1, 2, bad, 3);
    expect(() => quantizeInt4(w, { rows: 1, cols: 4, block: 2 })).toThrow(
      expect.objectContaining({ code: 'quant/not-finite', message: `weight 2 is ${bad}` }),
    );
  });
});

test('sizes that do not fit are refused', () => {
  const w = new Float32Array(12);
  expect(() => quantizeInt4(w, { rows: 1, cols: 13, block: 4 })).toThrow('12 weights are not 1 × 13 × 1');
  expect(() => quantizeInt4(w, { rows: 1, cols: 12, block: 0 })).toThrow('block length 0');
  expect(() => unpackNibbles(new Uint8Array(2), 5)).toThrow('5 nibbles in 2 bytes');
});

test('an odd count of nibbles leaves the last high nibble empty', () => {
  expect([...packNibbles(Uint8Array.of(1, 2, 15))]).toEqual([0x21, 0x0f]);
  expect([...unpackNibbles(Uint8Array.of(0x21, 0x0f), 3)]).toEqual([1, 2, 15]);
});

function squaredError(a: Float32Array, b: Float32Array): number {
  return a.reduce((sum, value, i) => sum + (value - b[i]!) ** 2, 0);
}

test('hqq: no other grid has a clearly smaller error to the power of 0.7 than the one that was found', () => {
  const w = Float32Array.from({ length: 32 }, (_, i) => Math.sin(i * 2.1) * 0.03 * (i === 9 ? 5 : 1));
  const options = { rows: 1, cols: 32, block: 32 };
  const normOf = (back: ArrayLike<number>) => w.reduce((sum, x, i) => sum + Math.abs(x - back[i]!) ** 0.7, 0);
  const found = normOf(dequantizeInt4(quantizeInt4(w, { ...options, clip: 'hqq' }), options));
  const full = normOf(dequantizeInt4(quantizeInt4(w, { ...options, clip: 'none' }), options));
  let best = Infinity;
  for (let zero = 0; zero <= 15; zero++) {
    for (let step = 0.001; step < 0.03; step += 0.0001) {
      const level = (x: number) => Math.min(15 - zero, Math.max(-zero, Math.round(x / step)));
      best = Math.min(best, normOf(w.map((x) => level(x) * step)));
    }
  }
  expect(found).toBeLessThan(full);
  expect(found).toBeLessThan(best * 1.15);
});

test('bfloat16 scales: each has 16 zero bits, and the levels are the nearest to them', () => {
  const w = Float32Array.from({ length: 128 }, (_, i) => Math.sin(i * 1.7));
  for (const symmetric of [false, true]) {
    const options = { rows: 2, cols: 64, block: 32, symmetric };
    const blocks = quantizeInt4(w, { ...options, bf16Scales: true });
    expect([...new Uint32Array(blocks.scale.buffer)].every((word) => (word & 0xffff) === 0)).toBe(true);
    const back = dequantizeInt4(blocks, options);
    w.forEach((x, i) => {
      const step = blocks.scale[Math.floor(i / 32)]!;
      const ends = Math.abs(back[i]!) >= 7 * step; // cut off by the range
      expect(Math.abs(back[i]! - x) <= step / 2 + 1e-6 || ends || Math.abs(x) > 0.9).toBe(true);
    });
  }
});

test('importance: a column that costs nothing leaves the grid to the others', () => {
  const w = Float32Array.from({ length: 16 }, (_, i) => (i === 3 ? 10 : Math.sin(i)));
  const importance = Float64Array.from({ length: 16 }, (_, i) => Number(i !== 3));
  const options = { rows: 1, cols: 16, block: 16, symmetric: true };
  const errorOf = (extra: object) => {
    const back = dequantizeInt4(quantizeInt4(w, { ...options, ...extra }), options);
    return squaredError(
      w.filter((_, i) => i !== 3),
      back.filter((_, i) => i !== 3),
    );
  };
  expect(errorOf({ importance })).toBeLessThan(0.7 * errorOf({}));
  expect(() => quantizeInt4(w, { ...options, importance: new Float64Array(4) })).toThrow(
    '4 importances for 16 columns',
  );
});
