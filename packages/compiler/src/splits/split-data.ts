import type { DataSet } from '../data/data-set.ts';
import { everyFourth } from './every-fourth.ts';
import { Untouched } from './untouched.ts';

/** Data in three parts, of which no sample is in two. */
export interface Splits {
  /** What statistics are taken from. */
  readonly calibrate: DataSet | undefined;
  /** What the final result is made with, when the choice is made: both, so that its recipe alone makes it again. */
  readonly build: DataSet | undefined;
  /** What a search compares its candidates on. */
  readonly choose: DataSet | undefined;
  /** Untouched until the end: what is read from the other two is left out of it. */
  readonly judge: Untouched | undefined;
  readonly sizes: SplitSizes;
  /** Why a part is missing. */
  readonly warnings: readonly string[];
}

/** Samples; null where only reading tells, and nothing needed to know. */
export interface SplitSizes {
  readonly calibrate: number | null;
  readonly choose: number | null;
  readonly judge: number | null;
}

/** A quarter of this judges. Fewer than 16 right-or-wrong samples could not tell 98 % from 80 %. */
const FEWEST = 64;

/**
 * `evaluation` judges. Of `data` every second of four samples, in their order, is for choosing where there is a search,
 * the rest calibrates. Without `evaluation` the fourth of every four judges, if there are 64 samples; with fewer, nothing
 * is left to judge, and a warning says so. Neighbours land in different parts: folders are often sorted by class.
 */
export async function splitData(
  data: DataSet | undefined,
  evaluation: DataSet | undefined,
  { search }: { readonly search: boolean },
): Promise<Splits> {
  if (!data)
    return { calibrate: undefined, build: undefined, choose: undefined, ...judgedOn(evaluation), warnings: [] };
  if (evaluation && !search) return cut(data, evaluation, { choose: [], judge: [] }, data.length ?? null);
  const count = data.length ?? (await countSamples(data));
  const choose = search ? [1] : [];
  if (evaluation) {
    const few = `a quarter of ${count} samples chooses between candidates: fewer than ${FEWEST / 4} tell little`;
    return { ...cut(data, evaluation, { choose, judge: [] }, count), warnings: count < FEWEST ? [few] : [] };
  }
  if (count >= FEWEST) return cut(data, undefined, { choose, judge: [3] }, count);
  const few = `${count} samples are too few for three splits (${FEWEST} are needed: a quarter of them judges)`;
  const warnings = [`${few}: nothing is left to judge; give --eval, or more --data`];
  return { ...cut(data, undefined, { choose, judge: [] }, count), warnings };
}

/** @param places of every four samples, for each part; the others calibrate */
function cut(
  data: DataSet,
  evaluation: DataSet | undefined,
  places: { readonly choose: readonly number[]; readonly judge: readonly number[] },
  count: number | null,
): Splits {
  const part = (of: readonly number[]): DataSet | undefined =>
    of.length === 0 ? undefined : everyFourth(data, of, count);
  const left = [0, 1, 2, 3].filter((place) => !places.choose.includes(place) && !places.judge.includes(place));
  const judged = judgedOn(evaluation ?? part(places.judge));
  const others = { calibrate: left.length === 4 ? data : part(left), choose: part(places.choose) };
  const both = places.judge.length === 0 ? data : part([...left, ...places.choose].toSorted((a, b) => a - b));
  const watched = (of: DataSet | undefined): DataSet | undefined => (of && judged.judge?.except(of)) ?? of;
  return {
    calibrate: watched(others.calibrate),
    build: watched(both),
    choose: watched(others.choose),
    judge: judged.judge,
    sizes: {
      ...judged.sizes,
      calibrate: others.calibrate?.length ?? count,
      choose: others.choose ? (others.choose.length ?? null) : 0,
    },
    warnings: [],
  };
}

function judgedOn(data: DataSet | undefined): Pick<Splits, 'judge' | 'sizes'> {
  const sizes = { calibrate: 0, choose: 0, judge: data ? (data.length ?? null) : 0 };
  return { judge: data && new Untouched(data), sizes };
}

/** A module may never end; what it gives after so many is not asked for. */
const MOST = 4096;

async function countSamples(data: DataSet): Promise<number> {
  let count = 0;
  if (data.kind === 'tensor') for await (const _ of data.samples()) if (++count === MOST) break;
  return count;
}
