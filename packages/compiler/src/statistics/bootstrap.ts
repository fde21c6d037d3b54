import { seededRandom } from '../calibrate/seeded-random.ts';
import type { Interval } from './interval.ts';
import { normalTail, studentT975 } from './student.ts';

const DRAWS = 2000;
const SEED = 0x5eed;

/**
 * Interval of a statistic over `count` samples: drawn 2,000 times with replacement, from a fixed seed. The percentiles lie
 * further out than 2.5 and 97.5 where samples are few, by what Student's distribution is wider than the normal one
 * (T. Hesterberg, The American Statistician 69 (2015), "expanded percentile").
 * @param statistic of the samples with these indices
 * @returns null where a draw has no finite statistic
 */
export function bootstrap(count: number, statistic: (draw: readonly number[]) => number): Interval | null {
  const random = seededRandom(SEED);
  const values: number[] = [];
  for (let i = 0; i < DRAWS; i++)
    values.push(statistic(Array.from({ length: count }, () => Math.floor(random() * count))));
  if (!values.every(Number.isFinite)) return null;
  values.sort((a, b) => a - b);
  const tail = normalTail(Math.sqrt(count / (count - 1)) * studentT975(count - 1));
  const at = Math.floor(tail * DRAWS);
  return [values[at] as number, values[DRAWS - 1 - at] as number];
}
