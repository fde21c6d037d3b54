import { deflateSync } from 'node:zlib';
import { build } from 'hdr-histogram-js';
import { describe, expect, test } from 'vitest';
import { decodeHistogram, encodeHistogram, mergeHistograms, summarize } from '../src/histogram.ts';

function of(values: readonly number[]) {
  const histogram = build({ bitBucketSize: 32, autoResize: true, useWebAssembly: false });
  for (const value of values) histogram.recordValue(value);
  return histogram;
}

test('what is merged is what was recorded, ranges of different size included', () => {
  const small = of(Array.from({ length: 100 }, (_, index) => index + 1));
  const large = of([5_000_000, 3_000_000_000]);
  const both = decodeHistogram(mergeHistograms(encodeHistogram(small), large));
  expect(both.totalCount).toBe(102);
  expect(both.getValueAtPercentile(50)).toBe(51);
  expect(both.maxValue / 3e9).toBeCloseTo(1, 2);
});

test.each([
  [0, [null, null, null, null]],
  [1, [7, null, null, null]],
  [63, [7, null, null, null]],
  [64, [7, 7, null, null]],
  [130, [7, 7, 7, null]],
  [662, [7, 7, 7, 7]],
])('%i values support these percentiles', (count, expected) => {
  const { p50Us, p90Us, p95Us, p99Us } = summarize(of(Array.from({ length: count }, () => 7)));
  expect([p50Us, p90Us, p95Us, p99Us]).toEqual(expected);
});

describe('#47 refused before anything is allocated', () => {
  const good = encodeHistogram(of([1, 2, 3]));
  const compressed = (inner: Uint8Array): Uint8Array => {
    const body = deflateSync(inner);
    const bytes = new Uint8Array(8 + body.length);
    new DataView(bytes.buffer).setUint32(0, 0x1c849314);
    new DataView(bytes.buffer).setUint32(4, body.length);
    bytes.set(body, 8);
    return bytes;
  };
  const header = (digits: number, lowest: bigint, highest: bigint): Uint8Array => {
    const view = new DataView(new ArrayBuffer(40));
    view.setUint32(0, 0x1c849313);
    view.setUint32(12, digits);
    view.setBigUint64(16, lowest);
    view.setBigUint64(24, highest);
    return new Uint8Array(view.buffer);
  };
  test.each([
    ['nothing', new Uint8Array()],
    ['noise', Uint8Array.from({ length: 50 }, (_, index) => index * 37)],
    ['cut short', good.subarray(0, good.length - 3)],
    ['a bomb of 100 MB', compressed(new Uint8Array(100_000_000))],
    ['a range up to 2^62', compressed(header(3, 1n, 2n ** 62n))],
    ['5 digits', compressed(header(5, 1n, 3_600_000_000n))],
    ['lowest 0', compressed(header(3, 0n, 3_600_000_000n))],
  ])('%s', (_, bytes) => {
    const before = process.memoryUsage().rss;
    expect(() => decodeHistogram(bytes)).toThrow();
    expect(process.memoryUsage().rss - before).toBeLessThan(64 * 2 ** 20);
  });
});
