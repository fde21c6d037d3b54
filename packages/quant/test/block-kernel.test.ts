import { describe, expect, test } from 'vitest';
import { runBlocks } from '../src/int4/block-kernel.ts';
import { packNibbles } from '../src/int4/nibbles.ts';

/** Shares of the full range's step, and zero points, around the best so far; the first round's around nothing. */
const ROUNDS = [
  [0.98, 0.88, 0.78, 0.68].map((share) => [share, 0]),
  [-0.05, 0.05].map((share) => [share, 0]),
  [-1, 1].map((zero) => [0, zero]),
  [-0.025, 0.025].map((share) => [share, 0]),
] as const;

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

test.each([1, 30, 31])('%i rows, packed: two levels and two zero points to a byte', (rows) => {
  const random = generator();
  const w = Float32Array.from({ length: rows * 33 }, () => random() - 0.5);
  for (const symmetric of [false, true]) {
    const options = { symmetric, search: true, bf16: false, importance: undefined, levels: true };
    const plain = runBlocks(w, { rows, cols: 33, inner: 1, block: 16 }, options);
    const packed = runBlocks(w, { rows, cols: 33, inner: 1, block: 16 }, { ...options, packed: true });
    expect(packed.levels).toEqual(packNibbles(plain.levels));
    expect(packed.zeroPoint).toEqual(packNibbles(plain.zeroPoint));
    expect(packed.scale).toEqual(plain.scale);
  }
});

test('scales that bfloat16 holds', () => {
  const random = generator();
  const w = Float32Array.from({ length: 640 }, () => random() - 0.5);
  const options = { symmetric: true, search: true, bf16: true, importance: undefined, levels: false };
  const { scale } = runBlocks(w, { rows: 10, cols: 64, inner: 1, block: 32 }, options);
  expect(new Uint32Array(scale.buffer).every((bits) => (bits & 0xffff) === 0)).toBe(true);
});

/** As the kernel has it, one weight at a time: sums of integers choose, float32 fits. */
function searched(values: number[], costs: number[], symmetric: boolean) {
  const f = Math.fround;
  const [low, high] = [Math.min(0, ...values), Math.max(0, ...values)];
  const step = f(symmetric ? Math.max(-low, high) / 7 : (high - low) / 15);
  const middle = symmetric ? 0 : Math.round(-low / ((high - low) / 15)) + 0;
  const peak = Math.max(-low, high);
  const toPart = f(32_767 / peak);
  const parts = values.map((value) => even(f(value * toPart)));
  const most = Math.max(...costs);
  const costParts = costs.map((cost) => Math.round((cost / most) * 32_767));
  const weighted = costs.some((cost) => cost !== 1);
  const costly = parts.map((part, k) => (weighted ? share(part, costParts[k] ?? 0) : part));
  const base = f(f(peak * f(2 ** 25 / 32_767)) / step);
  let best = { gain: 0, share: 1, zeroPoint: middle };
  for (const [index, round] of ROUNDS.entries()) {
    const centre = index === 0 ? { share: 0, zeroPoint: middle } : best;
    for (const [more = 0, shift = 0] of round) {
      const zeroPoint = centre.zeroPoint + shift;
      if (zeroPoint < 0 || zeroPoint > 15 || (symmetric && shift !== 0)) continue;
      const [lowest, tried] = [symmetric ? -8 : -zeroPoint, f(centre.share + f(more))];
      const factor = even(f(base / tried));
      const levels = parts.map((part) => cut((share(part, factor) + 512) >> 10, lowest));
      const wl = f(levels.reduce((sum, level, k) => sum + level * (costly[k] ?? 0), 0));
      const ll = f(levels.reduce((sum, level, k) => sum + level * level * (weighted ? (costParts[k] ?? 0) : 1), 0));
      const gain = f(wl * f(wl / ll));
      if (gain > best.gain) best = { gain, share: tried, zeroPoint };
    }
  }
  const { zeroPoint } = best;
  const tried = f(step * best.share);
  let [wl, ll] = [0, 0];
  for (const [k, value] of values.entries()) {
    const quotient = f(value / tried);
    const level = cut(even(quotient), symmetric ? -8 : -zeroPoint);
    const cost = f(f((costs[k] ?? 0) / most) * level);
    wl = f(wl + f(quotient * cost));
    ll = f(ll + f(level * cost));
  }
  return { scale: f(tried * f(wl / ll)), zeroPoint };
}

/** `(a · b + 2¹⁴) >> 15` */
function share(a: number, b: number): number {
  return (a * b + 2 ** 14) >> 15;
}

function cut(level: number, lowest: number): number {
  return Math.max(lowest, Math.min(lowest + 15, level));
}

function levelOf(value: number, scale: number, zeroPoint: number, symmetric: boolean): number {
  return cut(even(Math.fround(value / scale)) + zeroPoint, symmetric ? -8 : 0) + 0;
}

/** The nearest integer, ties to even. */
function even(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
}

function generator(): () => number {
  let state = 7;
  return () => (state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0) / 2 ** 32;
}
