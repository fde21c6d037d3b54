import { QuantError } from '../errors.ts';

const half = 2048;

/** What is known of all values where only some of them are counted. */
export interface Whole {
  readonly count: number;
  readonly min: number;
  readonly max: number;
}

/**
 * Distribution of a tensor's values over any number of samples of any shape, in fixed memory: 4,096 bins around 0.
 * When a value falls outside, the bins double their width and merge in pairs, so nothing is counted twice or moved.
 * Exact: count, min, max. To one bin: everything read off the bins.
 */
export class RangeHistogram {
  count = 0;
  min = Number.POSITIVE_INFINITY;
  max = Number.NEGATIVE_INFINITY;
  /** In the unit of the values; 0 until a value other than 0 came. Bin i covers `(i − 2048) · width` up to one width more. */
  width = 0;
  readonly bins = new Float64Array(2 * half);
  /** Ends of one sample after another, each new one counting `averaging` against all before it. */
  averageMin = 0;
  averageMax = 0;
  private readonly averaging: number;
  private samples = 0;
  private sum = 0;
  private counted = 0;

  /** @param averaging weight of a new sample in the moving averages, the first one apart; default 0.01 */
  constructor(averaging = 0.01) {
    this.averaging = averaging;
  }

  /** Of the values that were counted. */
  get mean(): number {
    return this.counted === 0 ? 0 : this.sum / this.counted;
  }

  /**
   * Adds one sample.
   * @param values all of them, or evenly spaced ones; then `whole` says what all are, and each stands for several
   * @throws {QuantError} `quant/not-finite`, naming the index; the histogram is then as it was
   */
  observe(values: Float32Array, whole?: Whole): void {
    const seen = ends(values);
    // NaN and ±Infinity all make the sum not finite; float32 values cannot overflow it otherwise.
    if (!Number.isFinite(seen.sum)) refuse(values);
    const { count, min, max } = whole ?? { count: values.length, ...seen };
    if (count === 0 || values.length === 0) return;
    if (!Number.isFinite(min) || !Number.isFinite(max)) refuse(Float32Array.of(min, max));
    this.widen(Math.max(Math.abs(min), Math.abs(max)));
    this.min = Math.min(this.min, min);
    this.max = Math.max(this.max, max);
    const share = this.samples++ === 0 ? 1 : this.averaging;
    this.averageMin += share * (min - this.averageMin);
    this.averageMax += share * (max - this.averageMax);
    const weight = count / values.length;
    this.sum += seen.sum;
    this.counted += values.length;
    this.count += count;
    if (this.width === 0) this.bins[half] += count;
    else addCounts(values, 1 / this.width, weight, this.bins);
  }

  /** Adds what another histogram saw. */
  merge(other: RangeHistogram): void {
    if (other.count === 0) return;
    this.widen(Math.max(Math.abs(other.min), Math.abs(other.max)));
    for (let i = 0; i < other.bins.length; i++) {
      const value = (i - half + 0.5) * other.width;
      if (other.bins[i] > 0)
        this.bins[this.width === 0 ? half : Math.floor(value / this.width) + half] += other.bins[i];
    }
    this.min = Math.min(this.min, other.min);
    this.max = Math.max(this.max, other.max);
    const all = this.samples + other.samples;
    this.averageMin += (other.samples / all) * (other.averageMin - this.averageMin);
    this.averageMax += (other.samples / all) * (other.averageMax - this.averageMax);
    this.samples = all;
    this.sum += other.sum;
    this.counted += other.counted;
    this.count += other.count;
  }

  /** The middle of bin i, in the unit of the values. */
  center(i: number): number {
    return (i - half + 0.5) * this.width;
  }

  private widen(peak: number): void {
    if (peak === 0 || !Number.isFinite(peak)) return;
    if (this.width === 0) {
      this.width = Math.max((peak * 1.0001) / half, Number.MIN_VALUE * half);
      return;
    }
    while (peak >= this.width * half) {
      const merged = new Float64Array(2 * half);
      for (let i = 0; i < 2 * half; i++) merged[Math.floor((i - half) / 2) + half] += this.bins[i];
      this.bins.set(merged);
      this.width *= 2;
    }
  }
}

/** Apart, so that the loops are compiled on their own. */
function ends(values: Float32Array): { min: number; max: number; sum: number } {
  let min = Number.POSITIVE_INFINITY;
  let max = Number.NEGATIVE_INFINITY;
  let sum = 0;
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    if (value < min) min = value;
    if (value > max) max = value;
    sum += value;
  }
  return { min, max, sum };
}

/** The sum below is never negative: truncation is floor. */
function addCounts(values: Float32Array, perUnit: number, weight: number, bins: Float64Array): void {
  for (let i = 0; i < values.length; i++) bins[Math.min((values[i] * perUnit + half) | 0, 2 * half - 1)] += weight;
}

function refuse(values: Float32Array): never {
  const index = values.findIndex((value) => !Number.isFinite(value));
  throw new QuantError('quant/not-finite', `value ${index} is ${values[index]}`);
}
