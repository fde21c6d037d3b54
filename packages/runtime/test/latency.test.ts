import { LatencyRecorder } from '@flotilla/runtime';
import { expect, test } from 'vitest';

function recorded(count: number): LatencyRecorder {
  const recorder = new LatencyRecorder();
  for (let i = 1; i <= count; i++) recorder.record(i);
  return recorder;
}

test.each([
  [0, { p50Us: null, p90Us: null, ci95Us: null, maxUs: 0 }],
  [1, { p50Us: 1, p90Us: null }],
  [63, { p90Us: null }],
  [64, { p90Us: 58, p95Us: null }],
  [129, { p90Us: 117, p95Us: null }],
  [130, { p95Us: 124, p99Us: null }],
  [661, { p95Us: 628, p99Us: null }],
  [662, { p99Us: 656 }],
])('%i runs support only some percentiles', (count, expected) => {
  expect(recorded(count).summary()).toMatchObject({ count, ...expected });
});

test('what travels is small and comes back equal', () => {
  const recorder = recorded(2000);
  expect(recorder.encode().length).toBeLessThan(2500);
  expect(LatencyRecorder.decode(recorder.encode()).summary()).toEqual(recorder.summary());
});

test('the interval holds the median of the distribution in about 95 % of samples', () => {
  let state = 1;
  const uniform = () => (state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0) / 2 ** 32;
  let held = 0;
  for (let sample = 0; sample < 500; sample++) {
    const recorder = new LatencyRecorder();
    for (let i = 0; i < 100; i++) recorder.record(1000 * (1 + uniform() ** 3)); // skewed
    const [low, high] = recorder.summary().ci95Us ?? [0, 0];
    if (low <= 1125 && 1125 <= high) held++;
  }
  expect(held / 500).toBeGreaterThan(0.93);
  expect(held / 500).toBeLessThan(0.995);
});

test('odd figures are bounded, bytes that are no histogram refused', () => {
  const recorder = new LatencyRecorder();
  for (const us of [-5, 0.4, 1e15]) recorder.record(us);
  expect(recorder.summary().maxUs).toBeGreaterThan(3.5e9);
  for (const bytes of [new Uint8Array(0), new Uint8Array(100), new Uint8Array(100_000)])
    expect(() => LatencyRecorder.decode(bytes)).toThrow(expect.objectContaining({ code: 'runtime/histogram' }));
});
