import {
  dequantizeInt4,
  dequantizeInt8,
  float16ToFloat32,
  float32ToFloat16,
  quantizeInt4,
  quantizeInt8,
  type Range,
  type RangeHistogram,
  chooseRange,
} from '@flotilla/quant';
import type { DistributionWatch } from './distribution.ts';

/** What each format would keep of a weight: 10·log₁₀(Σw² / Σ(w − ŵ)²), rounding only; null where it cannot hold it, or holds it exactly. */
export interface WeightLosses {
  /** One scale per output channel. */
  readonly int8: number | null;
  readonly int8PerTensor: number | null;
  /** Blocks of 32, with a zero point. */
  readonly int4: number | null;
  readonly int4Block128: number | null;
  readonly fp16: number | null;
}

/** What each format would keep of an activation, from its distribution. */
export interface ActivationLosses {
  /** uint8 over all that was seen. */
  readonly int8: number | null;
  /** uint8 over the middle 99.95 % of the values, as the int8 recipe cuts it. */
  readonly int8Clipped: number | null;
  /** 16 steps over the interval of least squared error. */
  readonly int4: number | null;
}

/** How blocks run, as `quantizeInt4` takes them. */
export interface BlockSizes {
  readonly rows: number;
  readonly cols: number;
  readonly inner: number;
}

const NO_LOSSES: WeightLosses = { int8: null, int8PerTensor: null, int4: null, int4Block128: null, fp16: null };

/** @param sizes undefined for a tensor that is no weight */
export function weightLosses(w: Float32Array, sizes: BlockSizes | undefined, energy: number): WeightLosses {
  if (!sizes || w.length === 0 || !w.every(Number.isFinite)) return NO_LOSSES;
  return {
    int8: int8Loss(w, sizes, energy),
    int8PerTensor: decibels(energy, w, dequantizeInt8(quantizeInt8(w, 1), w.length)),
    int4: int4Loss(w, sizes, energy, 32),
    int4Block128: int4Loss(w, sizes, energy, 128),
    fp16: decibels(energy, w, float16ToFloat32(float32ToFloat16(w))),
  };
}

/** One scale per output channel. @param energy Σw² */
export function int8Loss(w: Float32Array, { rows, inner }: BlockSizes, energy: number): number | null {
  const channels = rows === 1 ? inner : rows;
  const within = rows === 1 ? 1 : w.length / rows;
  return decibels(energy, w, dequantizeInt8(quantizeInt8(w, channels, { inner: within }), within));
}

/** Blocks with a zero point over their whole range; null where the axis is shorter than any block. @param energy Σw² */
export function int4Loss(w: Float32Array, sizes: BlockSizes, energy: number, length: number): number | null {
  if (sizes.cols < 16) return null;
  const options = { ...sizes, block: Math.min(length, sizes.cols), clip: 'none' } as const;
  return decibels(energy, w, dequantizeInt4(quantizeInt4(w, options), options));
}

function decibels(energy: number, w: Float32Array, back: Float32Array): number | null {
  let error = 0;
  for (let i = 0; i < w.length; i++) error += ((w[i] ?? 0) - (back[i] ?? 0)) ** 2;
  return ratioDb(energy, error);
}

export function activationLosses({ histogram, moments, zeros }: DistributionWatch): ActivationLosses {
  if (histogram.count === 0 || histogram.width === 0) return { int8: null, int8Clipped: null, int4: null };
  const loss = (range: Range, steps: number): number | null =>
    ratioDb(moments.energy, roundingError(histogram, zeros, range, steps));
  return {
    int8: loss(histogram, 255),
    int8Clipped: loss(chooseRange(histogram, 'percentile', { percentile: 99.95 }), 255),
    int4: loss(fewStepRange(histogram, zeros), 15),
  };
}

/** The interval of least squared error for 16 steps: both ends drawn in alike. */
function fewStepRange(histogram: RangeHistogram, zeros: number): Range {
  let best: Range = { min: histogram.min, max: histogram.max };
  let least = Number.POSITIVE_INFINITY;
  for (let shrink = 1; shrink > 0.05; shrink -= 0.05) {
    const range = { min: histogram.min * shrink, max: histogram.max * shrink };
    const error = roundingError(histogram, zeros, range, 15);
    if (error < least) [best, least] = [range, error];
  }
  return best;
}

/** Σ(x − x̂)² over the bins: what is clipped, step² / 12 for the rest; zeros are exact, since every interval holds 0. */
function roundingError(histogram: RangeHistogram, zeros: number, range: Range, steps: number): number {
  const [low, high] = [Math.min(range.min, 0), Math.max(range.max, 0)];
  const step = (high - low) / steps;
  const middle = histogram.bins.length / 2;
  let error = 0;
  for (const [i, weight] of histogram.bins.entries()) {
    if (weight === 0) continue;
    const value = histogram.center(i);
    const beyond = Math.max(0, value - high, low - value);
    error += (i === middle ? weight - zeros : weight) * (beyond * beyond + (step * step) / 12);
  }
  return error;
}

/** Two decimals; what is held exactly has no finite ratio. */
export function ratioDb(signal: number, error: number): number | null {
  if (error === 0 || signal === 0 || !Number.isFinite(signal / error)) return null;
  return Number((10 * Math.log10(signal / error)).toFixed(2));
}
