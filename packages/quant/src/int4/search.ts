/** Where a block's 16 levels lie; filled in by the functions below. */
export interface BlockGrid {
  /** float32, positive. */
  scale: number;
  /** The level that stands for 0. */
  zeroPoint: number;
}

/** Shares of the full range that are tried: outliers are cut off where that costs less than the finer step gains. */
const SHARES = [1, 0.97, 0.94, 0.91, 0.88, 0.85, 0.82, 0.79, 0.76, 0.73, 0.7, 0.65, 0.6];

/** A subnormal step would be flushed to 0 on some CPUs; such a block is stored as zeros. */
const SMALLEST = 2 ** -126;

/** The largest float32, less what a rounded quotient may be over. */
const LARGEST = (2 - 2 ** -22) * 2 ** 127;

/**
 * uint4: levels `(q − zeroPoint) · scale`, q in 0…15, from `min(w, 0)` to `max(w, 0)`, or the part of that range with the
 * least squared error.
 */
export function asymmetricGrid(values: Float64Array, count: number, search: boolean, grid: BlockGrid): void {
  let low = 0;
  let high = 0;
  for (let i = 0; i < count; i++) {
    low = Math.min(low, values[i]);
    high = Math.max(high, values[i]);
  }
  const step = (high - low) / 15;
  const exactZero = -low / step;
  const nearest = Math.round(exactZero);
  if (!take(grid, step, nearest, Math.max(nearest, 15 - nearest))) return;
  if (!search) return;
  let best = 0;
  // Rounding the zero point the other way shifts the grid by up to half a step: sometimes the better half.
  for (const zeroPoint of [Math.floor(exactZero), Math.ceil(exactZero)]) {
    for (const share of SHARES) {
      const fit = fitScale(values, count, step * share, -zeroPoint, 15 - zeroPoint);
      if (fit.gain > best && take(grid, fit.scale, zeroPoint, Math.max(zeroPoint, 15 - zeroPoint))) best = fit.gain;
    }
  }
}

/** int4: levels `q · scale`, q in −8…7. Without a search max|w| falls on ±7, so that −w quantizes to −q. */
export function symmetricGrid(values: Float64Array, count: number, search: boolean, grid: BlockGrid): void {
  let most = 0;
  for (let i = 0; i < count; i++) most = Math.max(most, Math.abs(values[i]));
  if (!take(grid, most / 7, 0, 8)) return;
  if (!search) return;
  let best = 0;
  for (const share of SHARES) {
    const fit = fitScale(values, count, (most / 7) * share, -8, 7);
    if (fit.gain > best && take(grid, fit.scale, 0, 8)) best = fit.gain;
  }
}

/**
 * Sets the grid to the step in float32, held back where the outermost level would overflow. A step too small to divide by
 * gives 1 and 0, on which the block becomes zeros.
 */
function take(grid: BlockGrid, step: number, zeroPoint: number, outermost: number): boolean {
  const scale = Math.fround(Math.min(step, LARGEST / outermost));
  const usable = scale >= SMALLEST;
  grid.scale = usable ? scale : 1;
  grid.zeroPoint = usable ? zeroPoint : 0;
  return usable;
}

/**
 * Rounds to levels `l = clamp(round(w / step), low, high)`; then `scale = Σwl / Σl²` is the least-squares scale for them,
 * and it brings the error from `Σw²` down by `gain = (Σwl)² / Σl²`.
 */
function fitScale(values: Float64Array, count: number, step: number, low: number, high: number): Fit {
  let wl = 0;
  let ll = 0;
  for (let i = 0; i < count; i++) {
    const nearest = values[i] / step + 6755399441055744 - 6755399441055744; // ties to even, see roundHalfEven
    const level = nearest < low ? low : nearest > high ? high : nearest;
    wl += values[i] * level;
    ll += level * level;
  }
  return ll > 0 ? { scale: wl / ll, gain: (wl * wl) / ll } : { scale: 0, gain: 0 };
}

interface Fit {
  readonly scale: number;
  readonly gain: number;
}
