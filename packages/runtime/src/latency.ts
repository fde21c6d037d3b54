import { build, decodeFromCompressedBase64, encodeIntoCompressedBase64, type Histogram } from 'hdr-histogram-js';
import { RuntimeError } from './errors.ts';
import type { Latency } from './types.ts';

/** Longest latency told apart from longer ones: one hour. */
const MAX_US = 3_600_000_000;

/** Runs that a percentile needs before it is more than its own noise. */
const NEEDED = { p50: 1, p90: 64, p95: 130, p99: 662 } as const;

/** Latencies in an HDR histogram: microseconds, 3 significant digits, mergeable, a few hundred bytes on the wire. */
export class LatencyRecorder {
  private readonly histogram: Histogram;

  constructor(histogram?: Histogram) {
    this.histogram =
      histogram ??
      build({
        bitBucketSize: 32,
        autoResize: true,
        lowestDiscernibleValue: 1,
        highestTrackableValue: MAX_US,
        numberOfSignificantValueDigits: 3,
        useWebAssembly: false,
      });
  }

  /** Fractions are rounded; below 0 counts as 0, above an hour as an hour. */
  record(us: number): void {
    this.histogram.recordValue(Math.min(MAX_US, Math.max(0, Math.round(us))));
  }

  add(other: LatencyRecorder): void {
    this.histogram.add(other.histogram);
  }

  get count(): number {
    return this.histogram.totalCount;
  }

  summary(): Latency {
    const { histogram, count } = this;
    const percentile = (p: number, needed: number) => (count >= needed ? histogram.getValueAtPercentile(p) : null);
    return {
      count,
      p50Us: percentile(50, NEEDED.p50),
      p90Us: percentile(90, NEEDED.p90),
      p95Us: percentile(95, NEEDED.p95),
      p99Us: percentile(99, NEEDED.p99),
      maxUs: count === 0 ? 0 : histogram.maxValue,
      meanUs: count === 0 ? 0 : histogram.mean,
      ci95Us: this.medianInterval(),
    };
  }

  /** Order statistics n/2 ± 0.98·√n hold the median in 95 % of samples (binomial, p = 1/2). Below 6 none do. */
  private medianInterval(): readonly [number, number] | null {
    const { count } = this;
    if (count < 6) return null;
    const half = 0.98 * Math.sqrt(count);
    const rank = (r: number) => this.histogram.getValueAtPercentile((100 * Math.min(count, Math.max(1, r))) / count);
    return [rank(Math.floor(count / 2 - half)), rank(Math.ceil(count / 2 + half) + 1)];
  }

  /** HdrHistogram V2, compressed. */
  encode(): Uint8Array {
    return new Uint8Array(Buffer.from(encodeIntoCompressedBase64(this.histogram), 'base64'));
  }

  /** @throws {RuntimeError} `runtime/histogram` */
  static decode(bytes: Uint8Array): LatencyRecorder {
    // Compressed: what is small here may not be small inside.
    if (bytes.length > 65_536) throw new RuntimeError('runtime/histogram', `a histogram of ${bytes.length} bytes`);
    try {
      return new LatencyRecorder(decodeFromCompressedBase64(Buffer.from(bytes).toString('base64'), 32, false));
    } catch (cause) {
      throw new RuntimeError('runtime/histogram', 'not an HdrHistogram V2', { cause });
    }
  }
}
