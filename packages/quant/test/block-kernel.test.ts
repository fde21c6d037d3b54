import { describe, expect, test } from 'vitest';
import { runBlocks } from '../src/int4/block-kernel.ts';

const SHARES = [1, 0.97, 0.94, 0.91, 0.88, 0.85, 0.82, 0.79, 0.76, 0.73, 0.7, 0.65, 0.6];

describe.each([
  { rows: 1, cols: 50, inner: 7 },
  { rows: 5, cols: 40, inner: 1 },
  { rows: 3, cols: 33, inner: 2 },
])('$rows × $cols × $inner', (shape) => {
  test.each([
    { symmetric: false, weighted: false },
    { symmetric: false, weighted: true },
    { symmetric: true, weighted: false },
  ])(
    'symmetric $symmetric, weighted $weighted: what the search finds one block at a time',
    ({ symmetric, weighted }) => {
      const { rows, cols, inner } = shape;
      const sizes = { ...shape, block: 16 };
      const random = generator();
      const w = Float32Array.from({ length: rows * cols * inner }, () => (random() - 0.5) * (random() < 0.05 ? 4 : 1));
      const importance = weighted ? Float64Array.from({ length: cols }, random) : undefined;
      const made = runBlocks(w, sizes, { symmetric, search: true, bf16: false, importance, levels: true });
      const blocks = Math.ceil(cols / 16);
      for (let at = 0; at < made.scale.length; at++) {
        const [b, row, i] = [Math.floor(at / inner) % blocks, Math.floor(at / inner / blocks), at % inner];
        const places = Array.from(
          { length: Math.min(16, cols - b * 16) },
          (_, k) => (row * cols + b * 16 + k) * inner + i,
        );
        const values = places.map((place) => w[place] ?? 0);
        const costs = values.map((_, k) => importance?.[b * 16 + k] ?? 1);
        const best = searched(values, costs, symmetric);
        expect([made.scale[at], made.zeroPoint[at]]).toEqual([best.scale, best.zeroPoint]);
        const levels = values.map((value) => levelOf(value, best.scale, best.zeroPoint, symmetric));
        const signed = symmetric ? Int8Array.from(made.levels) : made.levels;
        expect(places.map((place) => signed[place])).toEqual(levels);
      }
    },
  );
});

test('a weight that needs more than a piece of memory, piece by piece, is as in one', () => {
  const random = generator();
  const [cols, inner] = [64, 40_000];
  const w = Float32Array.from({ length: cols * inner }, () => random() - 0.5);
  const options = { symmetric: false, search: false, bf16: false, importance: undefined, levels: true };
  const made = runBlocks(w, { rows: 1, cols, inner, block: 32 }, options);
  const half = w.length / 2;
  const second = runBlocks(w.slice(half), { rows: 1, cols: 32, inner, block: 32 }, options);
  expect(made.scale.slice(inner).every((scale, i) => scale === second.scale[i])).toBe(true);
  const grids = runBlocks(w, { rows: 1, cols, inner, block: 32 }, { ...options, levels: false });
  expect(grids.scale.every((scale, i) => scale === made.scale[i])).toBe(true);
  expect(made.levels.slice(half).every((level, i) => level === second.levels[i])).toBe(true);
});

test('scales that bfloat16 holds', () => {
  const random = generator();
  const w = Float32Array.from({ length: 640 }, () => random() - 0.5);
  const options = { symmetric: true, search: true, bf16: true, importance: undefined, levels: false };
  const { scale } = runBlocks(w, { rows: 10, cols: 64, inner: 1, block: 32 }, options);
  expect(new Uint32Array(scale.buffer).every((bits) => (bits & 0xffff) === 0)).toBe(true);
});

function searched(values: number[], costs: number[], symmetric: boolean) {
  const low = Math.min(0, ...values);
  const high = Math.max(0, ...values);
  const step = Math.fround(symmetric ? Math.max(-low, high) / 7 : (high - low) / 15);
  const nearest = symmetric ? 0 : Math.round(-low / ((high - low) / 15)) + 0;
  const best = { scale: step, zeroPoint: nearest, gain: 0 };
  for (const zeroPoint of symmetric ? [0] : [nearest, nearest - 1, nearest + 1]) {
    if (zeroPoint < 0 || zeroPoint > 15) continue;
    for (const share of SHARES) {
      let [wl, ll] = [0, 0];
      for (const [k, value] of values.entries()) {
        const level = levelOf(value, step * share, zeroPoint, symmetric) - zeroPoint;
        wl += value * ((costs[k] ?? 0) * level);
        ll += level * ((costs[k] ?? 0) * level);
      }
      const scale = Math.fround(wl / ll);
      const gain = 2 * scale * wl - scale * scale * ll;
      if (gain > best.gain) Object.assign(best, { scale, zeroPoint, gain });
    }
  }
  return best;
}

function levelOf(value: number, scale: number, zeroPoint: number, symmetric: boolean): number {
  const lowest = symmetric ? -8 : 0;
  const exact = value / scale;
  const floor = Math.floor(exact);
  const rest = exact - floor;
  const rounded = rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
  return Math.max(lowest, Math.min(lowest + 15, rounded + zeroPoint)) + 0;
}

function generator(): () => number {
  let state = 7;
  return () => (state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0) / 2 ** 32;
}
