import { describe, expect, test } from 'vitest';
import { seededRandom } from '../src/calibrate/seeded-random.ts';
import { ratioInterval } from '../src/compile/latency.ts';
import type { SampleScore } from '../src/metrics/metric.ts';
import { keptInterval, valueInterval } from '../src/statistics/interval.ts';
import { pairedRatio, wilson } from '../src/statistics/proportions.ts';
import { normalTail, studentT975 } from '../src/statistics/student.ts';

const share = { higherIsBetter: true } as const;
const loss = { higherIsBetter: false, finish: Math.exp } as const;
const rights = (text: string): SampleScore[] => Array.from(text, (digit) => ({ sum: Number(digit), weight: 1 }));

test('quantiles as the tables have them', () => {
  for (const [degrees, t] of [
    [4, 2.776],
    [9, 2.262],
    [30, 2.042],
  ] as const) {
    expect(Math.abs(studentT975(degrees) - t)).toBeLessThan(0.01);
  }
  expect(normalTail(1.959964)).toBeCloseTo(0.025, 6);
  expect(normalTail(2.575829)).toBeCloseTo(0.005, 6);
});

test('Wilson: 81 of 263 is 0.255 to 0.366 (Newcombe 1998, table I)', () => {
  const [low, high] = wilson(81, 263);
  expect(low).toBeCloseTo(0.2553, 4);
  expect(high).toBeCloseTo(0.3662, 4);
  expect(wilson(0, 20)[0]).toBeCloseTo(0);
});

describe('what is kept, right-or-wrong samples', () => {
  test('all right in both is no proof of 1: 60 samples leave 3 % open', () => {
    const all = rights('1'.repeat(60));
    const [low, high] = keptInterval(share, all, all) ?? [];
    expect(low).toBeCloseTo(0.9685, 3);
    expect(high).toBeCloseTo(1.0325, 3);
  });
  test('nothing can be said of one sample, or where fp32 gets none right', () => {
    expect(keptInterval(share, rights('1'), rights('1'))).toBeNull();
    expect(keptInterval(share, rights('000'), rights('010'))).toBeNull();
  });
  test('holds the true ratio in 95 % of draws', () => {
    const random = seededRandom(11);
    let held = 0;
    for (let trial = 0; trial < 2000; trial++) {
      const pairs = { both: 0, first: 0, second: 0 };
      // fp32 right 88 %, quantized 84.6 %, they agree mostly: 0.83 both, 0.05 and 0.016 one alone.
      for (let i = 0; i < 150; i++) {
        const u = random();
        if (u < 0.83) pairs.both += 1;
        else if (u < 0.88) pairs.second += 1;
        else if (u < 0.896) pairs.first += 1;
      }
      const [low, high] = pairedRatio(pairs) ?? [NaN, NaN];
      if (low <= 0.846 / 0.88 && 0.846 / 0.88 <= high) held += 1;
    }
    expect(held / 2000).toBeGreaterThan(0.935);
    expect(held / 2000).toBeLessThan(0.975);
  });
});

describe('other scores, by the bootstrap', () => {
  const random = seededRandom(5);
  const windows = Array.from({ length: 40 }, () => 380 + 80 * random());
  const fp32 = windows.map((sum) => ({ sum, weight: 128 }));
  test('pairs are drawn together: a loss that is the same everywhere leaves nothing open', () => {
    const worse = fp32.map(({ sum, weight }) => ({ sum: sum + 128 * 0.01, weight }));
    const [low, high] = keptInterval(loss, fp32, worse) ?? [];
    expect(low).toBeCloseTo(Math.exp(-0.01), 6);
    expect(high).toBeCloseTo(Math.exp(-0.01), 6);
  });
  test('the same samples give the same interval, and it holds the value', () => {
    const interval = valueInterval(loss, fp32);
    expect(valueInterval(loss, fp32)).toEqual(interval);
    const value = Math.exp(windows.reduce((a, b) => a + b) / (40 * 128));
    expect(interval?.[0]).toBeLessThan(value);
    expect(interval?.[1]).toBeGreaterThan(value);
  });
});

test('speed: five rounds that differ leave more open than five that agree', () => {
  const [low, high] = ratioInterval([2, 2.1, 1.9, 2, 2.05]);
  expect([low, high]).toEqual([expect.closeTo(1.918, 2), expect.closeTo(2.103, 2)]);
  expect(ratioInterval([0.9, 1.4, 0.7, 1.1, 0.8])[1]).toBeGreaterThan(1);
});
