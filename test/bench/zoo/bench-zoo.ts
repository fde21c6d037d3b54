import { mkdir } from 'node:fs/promises';
import { zoo } from '../../models/zoo.ts';
import { type Outcome, NOT_TAKEN } from './kept.ts';
import { compilerKey, dataKey } from './keys.ts';
import { recipes } from './recipes.ts';
import type { Line, Row, Source, Speed } from './row.ts';
import { bundleSteps, Steps } from './steps.ts';
import type { ZooSizes } from './task.ts';

export interface ZooOptions {
  readonly quick: boolean;
  /** Parts of models' names; of the others, what is kept. Default: all. */
  readonly only?: readonly string[] | undefined;
  /** Measures speed, and what making takes the peers, although it was measured: on a quieter machine. */
  readonly again: boolean;
  /** Answers are kept here; what is there already is not asked for again. */
  readonly folder: string;
  readonly say: (line: string) => void;
}

/** Whose quoted figure needs at least 500 lines has them. */
const FULL: ZooSizes = {
  calibrateLines: 60,
  lines: 500,
  calibratePages: 16,
  pages: 16,
  angles: 400,
  clips: 30,
  textLines: 500,
  speedSeconds: 0.05,
};

const QUICK: ZooSizes = {
  calibrateLines: 24,
  lines: 24,
  calibratePages: 4,
  pages: 2,
  angles: 40,
  clips: 6,
  textLines: 60,
  speedSeconds: 0.03,
};

export const sizesOf = (quick: boolean): ZooSizes => (quick ? QUICK : FULL);

/** Whether something may be taken of a model. */
export function isNamed(only: readonly string[] | undefined): (model: string) => boolean {
  return (model) => only === undefined || only.some((part) => model.includes(part));
}

/**
 * Compiles each zoo model by each built-in recipe, two at a time, each in a process of its own; then, when nothing else
 * runs, measures speed.
 * @param isTaken false: only what is kept
 */
export async function benchZoo(options: ZooOptions, isTaken: boolean): Promise<readonly Line[]> {
  const { quick, only, folder, say } = options;
  await mkdir(folder, { recursive: true });
  const steps = new Steps(folder, await bundleSteps(), (model) => isTaken && isNamed(only)(model));
  const sizes = sizesOf(quick);
  const sources = await takeSources(steps, sizes, say);
  const key = await compilerKey(sizes);
  const jobs = [...zoo.keys()].flatMap((model) => [...recipes.keys()].map((recipe) => ({ model, recipe })));
  const made = await twoAtATime(jobs, async ({ model, recipe }): Promise<Line> => {
    const source = sources.get(model);
    const line = { model, by: 'flotilla', recipe, key, row: null, speeds: [] };
    if (!source?.answer) return { ...line, failed: source?.failed ?? NOT_TAKEN };
    const step = { model, step: 'compile', name: recipe, key } as const;
    const { answer, failed } = await steps.take<Row>(step, { sizes, recipe, data: source.answer.data });
    if (failed !== NOT_TAKEN) say(`${model} ${recipe}${failed === null ? '' : `: ${failed}`}`);
    return { ...line, row: answer, failed };
  });
  const known = made.filter(({ failed }) => failed !== NOT_TAKEN);
  return withSpeeds(steps, known, options);
}

/** The models as they came, with their calibration samples. */
export async function takeSources(
  steps: Steps,
  sizes: ZooSizes,
  say: (line: string) => void,
): Promise<ReadonlyMap<string, Outcome<Source>>> {
  const key = await dataKey(sizes);
  const taken = await twoAtATime([...zoo.keys()], async (model) => {
    const outcome = await steps.take<Source>({ model, step: 'fp32', name: 'source', key }, { sizes });
    if (outcome.failed !== NOT_TAKEN) say(`${model} fp32${outcome.failed === null ? '' : `: ${outcome.failed}`}`);
    return [model, outcome] as const;
  });
  return new Map(taken);
}

/** One after the other, alone. */
export async function withSpeeds(
  steps: Steps,
  lines: readonly Line[],
  { quick, again, say }: ZooOptions,
): Promise<readonly Line[]> {
  const measured: Line[] = [];
  for (const line of lines) {
    const { model, by, recipe, key, row } = line;
    if (!row) {
      measured.push(line);
      continue;
    }
    const step = { model, step: 'speed', name: `${by}-${recipe}-speed`, key, again } as const;
    const { answer, failed } = await steps.take<readonly Speed[]>(step, { sizes: sizesOf(quick), file: row.file });
    if (failed !== NOT_TAKEN) say(`${model} ${by} ${recipe} speed${failed === null ? '' : `: ${failed}`}`);
    measured.push({ ...line, speeds: answer ?? [], failed });
  }
  return measured;
}

/** @returns in the order of `all` */
export async function twoAtATime<T, R>(all: readonly T[], work: (one: T) => Promise<R>): Promise<readonly R[]> {
  const done: R[] = [];
  const waiting = [...all.entries()];
  const worker = async (): Promise<void> => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) done[next[0]] = await work(next[1]);
  };
  await Promise.all([worker(), worker()]);
  return done;
}
