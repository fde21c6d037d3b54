import { QuantError } from '../errors.ts';
import type { Range } from './range.ts';
import type { RangeHistogram } from './range-histogram.ts';

/** How an interval is chosen from a distribution. */
export type Observer = (typeof observers)[number];

/**
 * - `min-max`: all that was seen.
 * - `moving-average`: each sample's ends, averaged exponentially (Jacob et al. 2018, §3.1), so that one odd sample moves
 *   them little; depends on the order of samples.
 * - `percentile`: cuts the same share of values off both ends (McKinstry et al. 2018).
 * - `mse`: least expected squared error of clipping and rounding (Sung et al. 2015; Banner et al. 2019, eq. 5).
 * - `entropy`: least Kullback-Leibler divergence (Migacz 2017).
 */
export const observers = ['min-max', 'moving-average', 'percentile', 'mse', 'entropy'] as const;

export interface ObserverOptions {
  /** For `percentile`: the share of values to keep, in percent, tails cut evenly. Default 99.999. */
  readonly percentile?: number | undefined;
}

/**
 * The interval to quantize over, always inside the seen min and max.
 * @throws {QuantError} `quant/empty` where nothing was observed
 */
export function chooseRange(histogram: RangeHistogram, observer: Observer, options: ObserverOptions = {}): Range {
  if (histogram.count === 0) throw new QuantError('quant/empty', 'no values were observed');
  const { min, max } = histogram;
  if (histogram.width === 0) return { min, max };
  switch (observer) {
    case 'min-max':
      return { min, max };
    case 'moving-average':
      return { min: histogram.averageMin, max: histogram.averageMax };
    case 'percentile':
      return percentileRange(histogram, options.percentile ?? 99.999);
    case 'mse':
      return leastCost(histogram, squaredError);
    case 'entropy':
      return leastCost(histogram, divergence);
  }
}

function percentileRange(histogram: RangeHistogram, percentile: number): Range {
  const { bins, count, width } = histogram;
  const tail = (count * (1 - percentile / 100)) / 2;
  let [low, below] = [0, 0];
  while (low < bins.length - 1 && below + bins[low] <= tail) below += bins[low++];
  let [high, above] = [bins.length - 1, 0];
  while (high > low && above + bins[high] <= tail) above += bins[high--];
  return clampTo(histogram, histogram.center(low) - width / 2, histogram.center(high) + width / 2);
}

function clampTo({ min, max }: RangeHistogram, low: number, high: number): Range {
  return { min: Math.min(Math.max(low, min), max), max: Math.max(Math.min(high, max), min) };
}

type Cost = (histogram: RangeHistogram, range: Range) => number;

/** Down to a fiftieth of the end, then once more finely around the cheapest. */
const coarse = Array.from({ length: 64 }, (_, k) => 0.94 ** k);
const fine = Array.from({ length: 11 }, (_, k) => 1 + (k - 5) / 100);

/** Draws in each end on its own, the upper one first and again last, and keeps the cheapest interval. */
function leastCost(histogram: RangeHistogram, cost: Cost): Range {
  let best: Range = { min: histogram.min, max: histogram.max };
  let least = cost(histogram, best);
  for (const end of ['max', 'min', 'max'] as const) {
    for (const factors of [coarse, fine]) {
      const from = best;
      // Only an end that lies beyond 0 can be drawn in: the interval holds 0 in any case.
      if (end === 'max' ? from.max <= 0 : from.min >= 0) continue;
      for (const factor of factors) {
        const tried = clampTo(
          histogram,
          end === 'min' ? from.min * factor : from.min,
          end === 'max' ? from.max * factor : from.max,
        );
        const price = cost(histogram, tried);
        if (price < least) [best, least] = [tried, price];
      }
    }
  }
  return best;
}

/** Mean squared error of 256 steps: what is clipped, and step² / 12 for the rest. */
function squaredError(histogram: RangeHistogram, range: Range): number {
  const [low, high] = [Math.min(range.min, 0), Math.max(range.max, 0)];
  const rounding = ((high - low) / 255) ** 2 / 12;
  let total = 0;
  for (let i = 0; i < histogram.bins.length; i++) {
    const weight = histogram.bins[i];
    if (weight === 0) continue;
    const value = histogram.center(i);
    const beyond = Math.max(0, value - high, low - value);
    total += weight * (beyond * beyond + rounding);
  }
  return total / histogram.count;
}

/**
 * Kullback-Leibler divergence of the clipped distribution, spread evenly inside each of 256 steps, from the true one.
 * @see Migacz, "8-bit inference with TensorRT" (GTC 2017)
 */
function divergence(histogram: RangeHistogram, range: Range): number {
  const [low, high] = [Math.min(range.min, 0), Math.max(range.max, 0)];
  const step = (high - low) / 255;
  const { bins, count } = histogram;
  const stepOf = (i: number) => Math.max(0, Math.min(255, Math.round((histogram.center(i) - low) / step)));
  const mass = new Float64Array(256);
  const filled = new Float64Array(256);
  for (let i = 0; i < bins.length; i++) {
    if (bins[i] === 0) continue;
    mass[stepOf(i)] += bins[i];
    if (histogram.center(i) >= low && histogram.center(i) <= high) filled[stepOf(i)]++;
  }
  let total = 0;
  for (let i = 0; i < bins.length; i++) {
    if (bins[i] === 0) continue;
    const p = bins[i] / count;
    const inside = histogram.center(i) >= low && histogram.center(i) <= high;
    const q = inside ? mass[stepOf(i)] / filled[stepOf(i)] / count : 1e-9;
    total += p * Math.log(p / q);
  }
  return total;
}
