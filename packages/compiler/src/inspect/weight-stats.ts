import { dequantizeInt8, quantizeInt4, dequantizeInt4, quantizeInt8 } from '@flotilla/quant';

/** How a tensor's numbers are spread, and what each format would lose of them. */
export interface WeightStats {
  readonly min: number;
  readonly max: number;
  readonly mean: number;
  readonly std: number;
  /** Elements more than six standard deviations from the mean. */
  readonly outliers: number;
  /** Counts in equal bins from `min` to `max`. */
  readonly histogram: readonly number[];
  /** 10·log₁₀(Σw² / Σ(w − ŵ)²), rounding only; null where the format cannot hold the tensor. */
  readonly sqnrDb: { readonly int8: number | null; readonly int4: number | null };
}

const BINS = 24;
const FAR = 6;

/**
 * @param w all elements
 * @param sizes how blocks run, as `quantizeInt4` takes them; undefined for a tensor that is no weight
 */
export function weightStats(
  w: Float32Array,
  sizes: { readonly rows: number; readonly cols: number; readonly inner: number } | undefined,
): WeightStats {
  let min = Infinity;
  let max = -Infinity;
  let sum = 0;
  let squares = 0;
  for (const value of w) {
    min = Math.min(min, value);
    max = Math.max(max, value);
    sum += value;
    squares += value * value;
  }
  const mean = sum / w.length;
  const std = Math.sqrt(Math.max(0, squares / w.length - mean * mean));
  const histogram = Array.from({ length: BINS }, () => 0);
  const width = (max - min) / BINS || 1;
  let outliers = 0;
  for (const value of w) {
    const bin = Math.min(BINS - 1, Math.floor((value - min) / width));
    histogram[bin] = (histogram[bin] ?? 0) + 1;
    if (Math.abs(value - mean) > FAR * std) outliers += 1;
  }
  return { min, max, mean, std, outliers, histogram, sqnrDb: losses(w, sizes, squares) };
}

function losses(w: Float32Array, sizes: Parameters<typeof weightStats>[1], squares: number): WeightStats['sqnrDb'] {
  if (!sizes || !Number.isFinite(squares)) return { int8: null, int4: null };
  const options = { ...sizes, block: Math.min(32, sizes.cols), clip: 'none' } as const;
  const rows = sizes.rows === 1 ? sizes.inner : sizes.rows;
  const inner = sizes.rows === 1 ? 1 : w.length / rows;
  const int8 = dequantizeInt8(quantizeInt8(w, rows, { inner }), inner);
  const int4 = sizes.cols < 16 ? undefined : dequantizeInt4(quantizeInt4(w, options), options);
  return { int8: decibels(squares, w, int8), int4: int4 ? decibels(squares, w, int4) : null };
}

function decibels(squares: number, w: Float32Array, back: Float32Array): number | null {
  let error = 0;
  for (let i = 0; i < w.length; i++) error += ((w[i] ?? 0) - (back[i] ?? 0)) ** 2;
  // Weights that a format holds exactly have no finite ratio.
  return error === 0 ? null : Number((10 * Math.log10(squares / error)).toFixed(2));
}
