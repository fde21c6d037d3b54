import type { Board, BoardClass } from '@flotilla/boards';
import type { GoldenCase, Tolerance } from '@flotilla/pack';

/** What travels with a pack, and how far each class of boards may be from it. */
export interface Golden {
  readonly cases: readonly GoldenCase[];
  readonly tolerance: { readonly [boardClass: string]: Tolerance };
}

/** Few and small: they travel with every pack. */
export const CASES = 2;
/** Two orders of summation are tried, and the cases chosen by them: a third one lies further off. */
export const WAVERING_MARGIN = 4;

/** What sums in another order may differ at the very least. */
const SAME = 5e-3;
/** More than this no longer tells a good model from a broken one. */
const MOST = 0.25;

/** What is allowed each class, at least 5e-3 and at most a quarter of the largest output. */
export function tolerances(allowed: ReadonlyMap<BoardClass, number>): Golden['tolerance'] {
  return Object.fromEntries(
    [...allowed].map(([boardClass, most]) => {
      const rtol = Number(Math.min(MOST, Math.max(SAME, most)).toPrecision(2));
      return [boardClass, { atol: 1e-5, rtol }];
    }),
  );
}

/** One board of each class that is asked for, and of both x86 classes where this is an x86: servers are of either. */
export function onePerClass(host: Board, boards: readonly Board[]): readonly Board[] {
  const byClass = new Map(boards.map((board) => [board.boardClass, board]));
  const own: readonly BoardClass[] = host.arch === 'x64' ? ['x64', 'x64-vnni'] : [host.boardClass];
  for (const boardClass of own) if (!byClass.has(boardClass)) byClass.set(boardClass, { ...host, boardClass });
  return [...byClass.values()];
}
