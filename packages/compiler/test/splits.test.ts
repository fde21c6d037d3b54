import type { TensorValue } from '@flotilla/runtime';
import { describe, expect, test } from 'vitest';
import type { DataSet } from '../src/data/data-set.ts';
import { splitData } from '../src/splits/split-data.ts';

/** Samples 0, 1, 2 … by their number, from `first` on. */
function numbers(count: number, { first = 0, counted = true } = {}): DataSet {
  return {
    kind: 'tensor',
    path: 'numbers',
    length: counted ? count : undefined,
    async *samples() {
      for (let i = first; i < first + count; i++) {
        const x: TensorValue = { dtype: 'float32', dims: [1], data: Float32Array.of(i) };
        yield { name: String(i), inputs: { x } };
      }
    },
  };
}

async function read(data: DataSet | undefined): Promise<number[]> {
  const found: number[] = [];
  if (data?.kind === 'tensor') for await (const { name } of data.samples()) found.push(Number(name));
  return found;
}

describe('one data set is cut in three', () => {
  test.each([true, false])('no sample in two parts, none lost; counted beforehand: %s', async (counted) => {
    const splits = await splitData(numbers(70, { counted }), undefined, { search: true });
    const parts = [await read(splits.calibrate), await read(splits.choose), await read(splits.judge?.data)];
    expect(parts.flat().toSorted((a, b) => a - b)).toEqual(await read(numbers(70)));
    expect(splits.sizes).toEqual({ calibrate: 35, choose: 18, judge: 17 });
    expect(parts.map(({ length }) => length)).toEqual(Object.values(splits.sizes));
    expect(splits.warnings).toEqual([]);
  });
  test('without a search its part calibrates', async () => {
    const { sizes, choose } = await splitData(numbers(64), undefined, { search: false });
    expect([sizes, choose]).toEqual([{ calibrate: 48, choose: 0, judge: 16 }, undefined]);
  });
  test('too few for three are not used twice: nothing is left to judge, and a warning says how many are needed', async () => {
    const splits = await splitData(numbers(63), undefined, { search: false });
    expect(splits.judge).toBeUndefined();
    expect(splits.sizes).toEqual({ calibrate: 63, choose: 0, judge: 0 });
    expect(splits.warnings).toEqual([
      expect.stringContaining('63 samples are too few for three splits (64 are needed'),
    ]);
  });
});

describe('a data set of its own judges', () => {
  test('all of the other calibrates, or chooses where there is a search', async () => {
    const plain = await splitData(numbers(10), numbers(5, { first: 100 }), { search: false });
    expect(plain.sizes).toEqual({ calibrate: 10, choose: 0, judge: 5 });
    const search = await splitData(numbers(10), numbers(5, { first: 100 }), { search: true });
    expect(await read(search.choose)).toEqual([1, 5, 9]);
    expect(await read(search.calibrate)).toEqual([0, 2, 3, 4, 6, 7, 8]);
    expect(search.sizes).toEqual({ calibrate: 7, choose: 3, judge: 5 });
    expect(search.warnings).toEqual([expect.stringContaining('a quarter of 10 samples chooses')]);
  });
  test('what was read from the other part is left out of it; what was not, is not', async () => {
    const { calibrate, judge } = await splitData(numbers(10), numbers(6, { first: 6 }), { search: false });
    if (calibrate?.kind !== 'tensor') throw new Error('no samples');
    for await (const { name } of calibrate.samples()) if (name === '7') break;
    expect(await read(judge?.data)).toEqual([8, 9, 10, 11]);
    expect(judge?.leftOut).toBe(2);
    expect(await judge?.holdsAny()).toBe(true);
  });
  test('the same data twice leaves nothing', async () => {
    const { calibrate, judge } = await splitData(numbers(4), numbers(4), { search: false });
    await read(calibrate);
    expect([await judge?.holdsAny(), judge?.leftOut]).toEqual([false, 4]);
  });
});
