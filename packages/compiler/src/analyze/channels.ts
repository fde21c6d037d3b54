/** Facts of each channel, in memory that does not grow with the samples. */
export interface ChannelFacts {
  /** Of the tensor's dims; from the end where the rank varies is not followed: the channels are then given up. */
  readonly axis: number;
  readonly count: number;
  readonly min: readonly number[];
  readonly max: readonly number[];
  readonly mean: readonly number[];
  readonly std: readonly number[];
}

/** More channels than this are a table's rows, and no one reads them. */
const MOST_CHANNELS = 1 << 16;

/** Range and moments of every channel, over samples whose other dimensions may vary. */
export class Channels {
  private count = 0;
  private seen = new Float64Array();
  private min = new Float64Array();
  private max = new Float64Array();
  private sum = new Float64Array();
  private squares = new Float64Array();
  private given = false;

  /** @param axis counted from the front; a sample of another channel count ends the record */
  observe(values: Float32Array, dims: readonly number[], axis: number): void {
    const channels = dims[axis] ?? 0;
    if (this.given || values.length === 0) return;
    if (this.count === 0) this.start(channels);
    if (channels !== this.count || channels > MOST_CHANNELS) {
      this.given = true;
      return;
    }
    const inner = dims.slice(axis + 1).reduce((all, dim) => all * dim, 1);
    for (let start = 0, c = 0; start < values.length; start += inner, c = c + 1 === channels ? 0 : c + 1)
      this.add(values, start, start + inner, c);
  }

  private start(channels: number): void {
    this.count = channels;
    const size = Math.min(channels, MOST_CHANNELS);
    this.seen = new Float64Array(size);
    this.min = new Float64Array(size).fill(Number.POSITIVE_INFINITY);
    this.max = new Float64Array(size).fill(Number.NEGATIVE_INFINITY);
    this.sum = new Float64Array(size);
    this.squares = new Float64Array(size);
  }

  private add(values: Float32Array, start: number, end: number, c: number): void {
    let [low, high] = [this.min[c] ?? 0, this.max[c] ?? 0];
    let [sum, squares, count] = [0, 0, 0];
    for (let i = start; i < end; i++) {
      const value = values[i] ?? 0;
      if (!Number.isFinite(value)) continue;
      if (value < low) low = value;
      if (value > high) high = value;
      sum += value;
      squares += value * value;
      count++;
    }
    this.min[c] = low;
    this.max[c] = high;
    this.sum[c] = (this.sum[c] ?? 0) + sum;
    this.squares[c] = (this.squares[c] ?? 0) + squares;
    this.seen[c] = (this.seen[c] ?? 0) + count;
  }

  /** Null where the count of channels varied, or there are none. */
  facts(axis: number): ChannelFacts | null {
    if (this.given || this.count < 2) return null;
    const mean = Array.from(this.sum, (sum, c) => sum / Math.max(1, this.seen[c] ?? 0));
    const std = Array.from(this.squares, (squares, c) => {
      const m = mean[c] ?? 0;
      return Math.sqrt(Math.max(0, squares / Math.max(1, this.seen[c] ?? 0) - m * m));
    });
    return { axis, count: this.count, min: Array.from(this.min), max: Array.from(this.max), mean, std };
  }
}

/** Channels that say nothing: of one value throughout (a weight's all zero rows, a ReLU that never opens). */
export function deadChannels({ min, max }: ChannelFacts): number[] {
  return min.flatMap((low, c) => (low === max[c] ? [c] : []));
}

/** How uneven the channels are: the largest peak over the median one. One scale for all wastes log2 of it in bits. */
export function channelSpread({ min, max }: ChannelFacts): number | null {
  const peaks = min.map((low, c) => Math.max(Math.abs(low), Math.abs(max[c] ?? 0))).toSorted((a, b) => a - b);
  const median = peaks[peaks.length >> 1] ?? 0;
  return median > 0 ? (peaks.at(-1) ?? 0) / median : null;
}
