import { QuantError } from '../errors.ts';

const half = 2048;

/**
 * Distribution of a tensor's values over any number of samples of any shape, in fixed memory: 4,096 bins around 0.
 * When a value falls outside, the bins double their width and merge in pairs, so nothing is counted twice or moved.
 * Exact: count, min, max, mean. To one bin: everything read off the bins.
 */
export class RangeHistogram {
  count = 0;
  min = Number.POSITIVE_INFINITY;
  max = Number.NEGATIVE_INFINITY;
  /** In the unit of the values; 0 until a value other than 0 came. Bin i covers `(i − 2048) · width` up to one width more. */
  width = 0;
  readonly bins = new Float64Array(2 * half);
  private sum = 0;

  get mean(): number {
    return this.count === 0 ? 0 : this.sum / this.count;
  }

  /** @throws {QuantError} `quant/not-finite`, naming the index; the histogram is then as it was */
  observe(values: Float32Array): void {
    let min = this.min;
    let max = this.max;
    let sum = 0;
    for (let i = 0; i < values.length; i++) {
      const value = values[i];
      if (value < min) min = value;
      if (value > max) max = value;
      sum += value;
    }
    // NaN and ±Infinity all make the sum not finite; float32 values cannot overflow it otherwise.
    if (!Number.isFinite(sum)) refuse(values);
    this.widen(Math.max(Math.abs(min), Math.abs(max)));
    this.min = min;
    this.max = max;
    this.sum += sum;
    this.count += values.length;
    if (this.width === 0) this.bins[half] += values.length;
    else count(values, 1 / this.width, this.bins);
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
    this.sum += other.sum;
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

/** Apart, so that the loop is compiled on its own. The sum below is never negative: truncation is floor. */
function count(values: Float32Array, perUnit: number, bins: Float64Array): void {
  for (let i = 0; i < values.length; i++) bins[Math.min((values[i] * perUnit + half) | 0, 2 * half - 1)]++;
}

function refuse(values: Float32Array): never {
  const index = values.findIndex((value) => !Number.isFinite(value));
  throw new QuantError('quant/not-finite', `value ${index} is ${values[index]}`);
}
