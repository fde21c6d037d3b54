import type { TensorValue } from '@flotilla/runtime';
import { describe, expect, test } from 'vitest';
import { overrun, parseBudget } from '../src/budget/parse-budget.ts';
import { objectionsTo } from '../src/compile/objections.ts';
import type { LatencyReport, Verdict } from '@flotilla/compiler';
import { divergences } from '../src/evaluate/language-error.ts';
import { OutputError } from '../src/evaluate/output-error.ts';

const verdict: Verdict = {
  ...{
    metric: 'top1',
    samples: 100,
    fp32: 0.9,
    quantized: 0.9,
    kept: 1,
    interval: [0.97, 1.03],
    floor: 0.98,
    ok: true,
  },
  ...{ candidates: 1, splits: { calibrate: 64, choose: 0, judge: 100 }, sqnrDb: 30 },
};
const latency = (speedup: number, interval: readonly [number, number]): LatencyReport => ({
  ...{ threads: 1, fp32: { p50Us: 1000 }, quantized: { p50Us: 1000 / speedup }, speedup, interval },
});
const nodes = { quantized: 3, float: 1 };
const onTarget = true;

describe('what is said against a result', () => {
  test('nothing, where it keeps enough and is faster', () => {
    expect(objectionsTo({ verdict, latency: latency(2, [1.9, 2.1]), nodes }, { onTarget })).toEqual([]);
  });
  test('under the floor', () => {
    const under = { ...verdict, kept: 0.9, ok: false };
    expect(objectionsTo({ verdict: under, latency: null, nodes }, { onTarget })).toEqual([
      "top1 keeps 90.0 % of fp32's on 100 samples, the floor is 98.0 %",
    ]);
  });
  test('nothing to judge on, unless nothing was quantized or no accuracy is asked for', () => {
    const blind = { verdict: null, latency: null, nodes };
    expect(objectionsTo(blind, { onTarget })).toEqual([expect.stringContaining('nothing was left to judge')]);
    expect(objectionsTo({ ...blind, nodes: { quantized: 0, float: 4 } }, { onTarget })).toEqual([]);
    expect(objectionsTo(blind, { floor: 0, onTarget })).toEqual([]);
  });
  test('slower by the whole interval, on a machine that the pack is for', () => {
    const slower = { verdict, latency: latency(0.8, [0.75, 0.85]), nodes };
    expect(objectionsTo(slower, { onTarget })).toEqual(['slower than fp32 on this machine: 0.80× its speed']);
    expect(objectionsTo(slower, { onTarget: false })).toEqual([]);
    expect(objectionsTo({ verdict, latency: latency(0.98, [0.9, 1.07]), nodes }, { onTarget })).toEqual([]);
  });
  test('over a budget', () => {
    expect(overrun(parseBudget('size=4MB'), 4_100_000, null)).toEqual(['4100000 bytes, the budget is 4000000']);
    expect(overrun(parseBudget('latency=12ms'), 1, { quantized: { p50Us: 11_000 } })).toEqual([]);
    expect(overrun(parseBudget('latency=12ms'), 1, { quantized: { p50Us: 13_000 } })).toHaveLength(1);
    expect(overrun(parseBudget('accuracy=0.98'), 1, null)).toEqual([]);
  });
});

test('signal to noise is that of the output that is worst off; equal outputs have none', () => {
  const error = new OutputError();
  error.add({ a: floats([3, 4]), b: floats([1]) }, { a: floats([3, 4]), b: floats([1.1]) });
  error.add({ a: floats([10]), b: floats([1]) }, { a: floats([10.5]), b: floats([1]) });
  // b: 2 / 0.01; a: 125 / 0.25.
  expect(error.sqnrDb()).toBeCloseTo(10 * Math.log10(200), 3);
  const equal = new OutputError();
  equal.add({ a: floats([1]) }, { a: floats([1]) });
  expect(equal.sqnrDb()).toBeNull();
});

test('KL divergence of each row, in nats', () => {
  const rows = { data: Float32Array.of(0, 0, Math.log(3), 0), dims: [2, 2] };
  const [same, other] = divergences(rows, Float32Array.of(5, 5, 0, 0));
  expect(same).toBeCloseTo(0);
  // p = 3/4, 1/4 beside 1/2, 1/2.
  expect(other).toBeCloseTo(0.75 * Math.log(1.5) + 0.25 * Math.log(0.5), 5);
});

function floats(values: number[]): TensorValue {
  return { dtype: 'float32', dims: [values.length], data: Float32Array.from(values) };
}
