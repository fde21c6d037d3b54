import { inflateSync } from 'node:zlib';
import { decodeFromCompressedBase64, encodeIntoCompressedBase64, type Histogram } from 'hdr-histogram-js';

/** Percentiles in the histogram's unit, or null where the number of values cannot support them. */
export interface LatencySummary {
  readonly count: number;
  readonly p50Us: number | null;
  readonly p90Us: number | null;
  readonly p95Us: number | null;
  readonly p99Us: number | null;
  readonly maxUs: number;
  readonly meanUs: number;
}

const COMPRESSED_COOKIE = 0x1c849304;
const COOKIE = 0x1c849303;
const WORD_SIZE_BITS = 0xf0;
/** Counts of a histogram of an hour in microseconds at 3 digits: 45,056, of at most 9 bytes, and the header. */
const MAX_INFLATED = 512 * 1024;
const MAX_US = 2 ** 40;

/**
 * Decodes what a device sent: HdrHistogram V2, compressed. Both the inflated size and the header's range are judged
 * before anything is allocated: a few bytes may claim to be gigabytes.
 * @throws {Error} naming what is wrong
 */
export function decodeHistogram(bytes: Uint8Array): Histogram {
  const outer = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 8 || (outer.getUint32(0) & ~WORD_SIZE_BITS) >>> 0 !== COMPRESSED_COOKIE)
    throw new Error('not a compressed HdrHistogram V2');
  if (outer.getUint32(4) !== bytes.length - 8) throw new Error('its length is not the one it says');
  const inflated = new Uint8Array(inflateSync(bytes.subarray(8), { maxOutputLength: MAX_INFLATED }));
  checkHeader(new DataView(inflated.buffer, inflated.byteOffset, inflated.byteLength));
  return decodeFromCompressedBase64(Buffer.from(bytes).toString('base64'), 32, false);
}

export function encodeHistogram(histogram: Histogram): Uint8Array {
  return new Uint8Array(Buffer.from(encodeIntoCompressedBase64(histogram), 'base64'));
}

/** Merges two encoded histograms. */
export function mergeHistograms(a: Uint8Array | undefined, b: Histogram): Uint8Array {
  if (a === undefined) return encodeHistogram(b);
  const sum = decodeHistogram(a);
  sum.autoResize = true;
  sum.add(b);
  return encodeHistogram(sum);
}

export function summarize(histogram: Histogram): LatencySummary {
  const count = histogram.totalCount;
  const at = (percentile: number, needed: number): number | null =>
    count < needed ? null : histogram.getValueAtPercentile(percentile);
  return {
    count,
    p50Us: at(50, 1),
    p90Us: at(90, 64),
    p95Us: at(95, 130),
    p99Us: at(99, 662),
    maxUs: count === 0 ? 0 : histogram.maxValue,
    meanUs: count === 0 ? 0 : histogram.mean,
  };
}

/** @see HdrHistogram V2: cookie, payload length, normalizing offset, digits, lowest, highest, ratio */
function checkHeader(view: DataView): void {
  if (view.byteLength < 40) throw new Error('cut short');
  if ((view.getUint32(0) & ~WORD_SIZE_BITS) >>> 0 !== COOKIE) throw new Error('not an HdrHistogram V2 inside');
  if (view.getUint32(4) !== view.byteLength - 40) throw new Error('its payload is not as long as it says');
  const digits = view.getUint32(12);
  if (digits < 1 || digits > 3) throw new Error(`${digits} significant digits; 1 to 3 are taken`);
  const lowest = Number(view.getBigUint64(16));
  const highest = Number(view.getBigUint64(24));
  if (lowest !== 1 || highest < 2 || highest > MAX_US) throw new Error(`a range of ${lowest} to ${highest}`);
}
