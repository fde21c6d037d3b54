import { expect, test } from 'vitest';
import { peersAhead } from '../bench/peers/ahead.ts';
import type { Line } from '../bench/zoo/row.ts';

/** A result of `by`: its share of the source file, what it keeps of the score, its speed-up at one thread. */
function result(by: string, [ratio, kept, speedup]: readonly [number, number, number], model = 'm'): Line {
  const made = { model, by, recipe: `${by}-recipe`, file: '', seconds: 1, peakRssBytes: 1 };
  const score = { metric: '', samples: 100, fp32: 100, score: 100 * kept, kept, sqnrDb: null };
  const row = { ...made, ...score, bytes: 1, ratio, nodes: null, warnings: [] };
  const speeds = [{ threads: 1, speedup, interval: [speedup, speedup] as const, p50Us: 1 }];
  return { model, by, recipe: made.recipe, key: '', row, speeds, failed: null };
}

const columnsOf = (zoo: readonly Line[], peer: Line) => peersAhead(zoo, [peer]).map(({ columns }) => columns);

test('a peer that is smaller, faster and as accurate is ahead in what it leads in', () => {
  const ours = [result('flotilla', [0.3, 0.99, 2]), { ...result('flotilla', [0.2, 0.98, 1.1]), recipe: 'small' }];
  const [asAccurate] = peersAhead(ours, [result('peer', [0.25, 0.992, 2.5])]);
  expect(asAccurate).toMatchObject({ columns: ['size', 'speed'], beaten: ['flotilla-recipe'], beatsAll: false });
  const [best] = peersAhead(ours, [result('peer', [0.15, 1, 2.5])]);
  expect(best).toMatchObject({
    columns: ['size', 'kept', 'speed'],
    beaten: ['small', 'flotilla-recipe'],
    beatsAll: true,
  });
});

test('one row of ours that equals it in all columns is enough, two that do so together are not', () => {
  const [small, fast] = [result('flotilla', [0.2, 1, 1]), result('flotilla', [0.3, 1, 2])];
  expect(columnsOf([small, fast], result('peer', [0.201, 1, 1.02]))).toEqual([]);
  expect(columnsOf([small, fast], result('peer', [0.2, 1, 2]))).toHaveLength(1);
});

test('of no use are a peer’s result under the floor, and ours under it beside one above', () => {
  const ours = result('flotilla', [0.2, 0.5, 9]);
  expect(columnsOf([ours], result('peer', [0.01, 0.9, 100]))).toEqual([]);
  expect(columnsOf([ours], result('peer', [0.9, 1, 0.5]))).toEqual([['size', 'kept', 'speed']]);
  expect(columnsOf([result('flotilla', [0.2, 1, 9], 'another')], result('peer', [0.9, 1, 0.5]))).toHaveLength(1);
});

test('speeds whose intervals overlap are one speed', () => {
  const wide = (line: Line): Line => ({
    ...line,
    speeds: line.speeds.map((one) => ({ ...one, interval: [one.speedup - 0.3, one.speedup + 0.3] as const })),
  });
  const [ours, peer] = [result('flotilla', [0.25, 1, 1]), result('peer', [0.25, 1, 1.2])];
  expect(columnsOf([ours], peer)).toEqual([['speed']]);
  expect(columnsOf([wide(ours)], wide(peer))).toEqual([]);
});

test('what was not timed or not made takes no part', () => {
  const failed: Line = { ...result('peer', [0.1, 1, 9]), row: null, failed: 'no' };
  expect(columnsOf([], failed)).toEqual([]);
  expect(columnsOf([], { ...result('peer', [0.1, 1, 9]), speeds: [] })).toEqual([]);
});
