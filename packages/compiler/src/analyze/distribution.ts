import { RangeHistogram } from '@flotilla/quant';
import { type ChannelFacts, Channels, channelSpread, deadChannels } from './channels.ts';
import { FarValues, type Outlier } from './far-values.ts';
import { Moments } from './moments.ts';

/** How a tensor's numbers are spread, over one constant or over all samples of an activation. */
export interface Distribution {
  readonly count: number;
  readonly min: number;
  readonly max: number;
  readonly mean: number;
  readonly std: number;
  /** 0 for what is symmetric; null where all values are one. */
  readonly skewness: number | null;
  /** 3 for a normal distribution; null where all values are one. */
  readonly kurtosis: number | null;
  /** Share of exact zeros. */
  readonly sparsity: number;
  /** NaN and infinities; they are in no other figure. */
  readonly notFinite: number;
  /** Values more than six standard deviations from the mean (of an activation, to one bin of its histogram). */
  readonly outliers: number;
  /** The farthest of them, by name. */
  readonly farthest: readonly Outlier[];
  readonly channels: ChannelReport | null;
  /** Counts in equal bins from `min` to `max`. */
  readonly histogram: readonly number[];
}

export interface ChannelReport {
  readonly axis: number;
  readonly count: number;
  /** Channels of one value throughout. */
  readonly dead: readonly number[];
  /** Largest peak over the median one. */
  readonly spread: number | null;
  /** Each channel's figures, where they were asked for. */
  readonly facts?: Pick<ChannelFacts, 'min' | 'max' | 'mean' | 'std'> | undefined;
}

/** Standard deviations from the mean beyond which a value is an outlier. */
const FAR = 6;

/** Watches a tensor's values go by: memory depends on its channels, never on the number or shape of samples. */
export class DistributionWatch {
  /** Of what is finite. */
  readonly histogram = new RangeHistogram();
  readonly moments = new Moments();
  zeros = 0;
  private notFinite = 0;
  private readonly channels = new Channels();
  private readonly far = new FarValues();
  private axis = 0;

  /**
   * @param axis the channels'; negative: counted from the end
   * @param sample whose values these are; undefined for a constant
   */
  observe(values: Float32Array, dims: readonly number[], axis: number, sample?: number): void {
    if (values.length === 0) return;
    const finite = onlyFinite(values);
    this.notFinite += values.length - finite.length;
    this.histogram.observe(finite);
    this.moments.observe(finite);
    this.zeros += countZeros(finite);
    this.axis = axis < 0 ? axis + dims.length : axis;
    if (dims.length > 1) this.channels.observe(values, dims, this.axis);
    this.far.observe(values, dims, this.axis, this.moments, sample);
  }

  /** @param detail each channel's own figures too */
  report(bins: number, detail = false): Distribution {
    const { histogram, moments, notFinite } = this;
    const { count, mean, std } = moments;
    const facts = this.channels.facts(this.axis);
    const farthest = this.far.beyond(mean, FAR * std);
    return {
      count: count + notFinite,
      min: count === 0 ? 0 : histogram.min,
      max: count === 0 ? 0 : histogram.max,
      mean,
      std,
      skewness: moments.skewness,
      kurtosis: moments.kurtosis,
      sparsity: this.zeros / Math.max(1, count),
      notFinite,
      outliers: Math.max(farthest.length, countBeyond(histogram, mean, FAR * std)),
      farthest,
      channels: facts && {
        axis: facts.axis,
        count: facts.count,
        dead: deadChannels(facts),
        spread: channelSpread(facts),
        facts: detail ? { min: facts.min, max: facts.max, mean: facts.mean, std: facts.std } : undefined,
      },
      histogram: displayBins(this, bins),
    };
  }
}

function onlyFinite(values: Float32Array): Float32Array {
  for (const value of values) if (!Number.isFinite(value)) return values.filter(Number.isFinite);
  return values;
}

function countZeros(values: Float32Array): number {
  let zeros = 0;
  for (const value of values) if (value === 0) zeros++;
  return zeros;
}

function countBeyond(histogram: RangeHistogram, mean: number, distance: number): number {
  if (distance === 0) return 0;
  let count = 0;
  for (const [i, weight] of histogram.bins.entries())
    if (weight > 0 && Math.abs(histogram.center(i) - mean) > distance) count += weight;
  return count;
}

/** The fine bins gathered into few; exact zeros, which stand at the edge of a fine bin, go where they belong. */
function displayBins({ histogram, zeros }: DistributionWatch, bins: number): number[] {
  const { min, max } = histogram;
  const counts = Array.from({ length: bins }, () => 0);
  const put = (value: number, weight: number): void => {
    const share = max > min ? (value - min) / (max - min) : 0;
    const bin = Math.max(0, Math.min(bins - 1, Math.floor(share * bins)));
    counts[bin] = (counts[bin] ?? 0) + weight;
  };
  const middle = histogram.bins.length / 2;
  for (const [i, weight] of histogram.bins.entries())
    if (weight > 0) put(histogram.center(i), i === middle ? weight - zeros : weight);
  if (zeros > 0) put(0, zeros);
  return counts;
}
