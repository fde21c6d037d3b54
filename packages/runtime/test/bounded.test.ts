import { expect, test } from 'vitest';
import { within } from '../src/bounded.ts';

const late = (): Error => new Error('late');

test('work that others kept from the processor is tried again; work that computes all the while is given up', () => {
  let tries = 0;
  const kept = (): number => {
    // As where nothing else runs: time goes by, and none of it is this process's.
    if (++tries < 3) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2000);
    return tries;
  };
  expect(within(30, kept, late)).toBe(3);
  tries = 0;
  const busy = (): never => {
    tries++;
    for (;;) Math.sqrt(tries);
  };
  expect(() => within(100, busy, late)).toThrow('late');
  expect(tries).toBeLessThan(6); // that is, given up: not after the last one
});

test('what the work throws is thrown', () => {
  const broken = (): never => {
    throw new RangeError('broken');
  };
  expect(() => within(1000, broken, late)).toThrow(RangeError);
});
