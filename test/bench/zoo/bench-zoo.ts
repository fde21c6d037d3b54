import { mkdir } from 'node:fs/promises';
import { zoo } from '../../models/zoo.ts';
import { recipes } from './recipes.ts';
import type { Line, Row, Source, Speed, StepOptions } from './row.ts';
import { bundleSteps, Steps } from './steps.ts';
import type { ZooSizes } from './task.ts';

export interface ZooOptions {
  readonly quick: boolean;
  /** Parts of models' names. Default: all. */
  readonly only?: readonly string[] | undefined;
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

/** Models in the order of the table. */
export function modelsNamed(only: readonly string[] | undefined): readonly string[] {
  return [...zoo.keys()].filter((model) => only === undefined || only.some((part) => model.includes(part)));
}

/**
 * Compiles each zoo model by each built-in recipe, two at a time, each in a process of its own; then, when nothing else
 * runs, measures speed.
 */
export async function benchZoo({ quick, only, folder, say }: ZooOptions): Promise<readonly Line[]> {
  await mkdir(folder, { recursive: true });
  const steps = new Steps(folder, await bundleSteps());
  const sizes = sizesOf(quick);
  const models = modelsNamed(only);
  const sources = new Map<string, Source>();
  const why = new Map<string, string>();
  await twoAtATime(models, async (model) => {
    const { answer, failed } = await steps.take<Source>(model, 'fp32', 'source', { sizes });
    say(`${model} fp32${failed === null ? '' : `: ${failed}`}`);
    if (answer) sources.set(model, answer);
    else why.set(model, failed);
  });
  const jobs = models.flatMap((model) => [...recipes.keys()].map((recipe) => ({ model, recipe })));
  const made: Line[] = [];
  await twoAtATime(jobs, async ({ model, recipe }) => {
    const options: StepOptions = { sizes, recipe, data: sources.get(model)?.data };
    const reason = why.get(model);
    const { answer, failed } =
      reason === undefined
        ? await steps.take<Row>(model, 'compile', recipe, options)
        : { answer: null, failed: reason };
    say(`${model} ${recipe}${failed === null ? '' : `: ${failed}`}`);
    made.push({ model, by: 'flotilla', recipe, row: answer, speeds: [], failed });
  });
  const place = new Map(jobs.map(({ model, recipe }, i) => [`${model} ${recipe}`, i]));
  const ordered = made.toSorted(
    (a, b) => (place.get(`${a.model} ${a.recipe}`) ?? 0) - (place.get(`${b.model} ${b.recipe}`) ?? 0),
  );
  return withSpeeds(steps, ordered, sizes, say);
}

/** One after the other, alone. */
export async function withSpeeds(
  steps: Steps,
  lines: readonly Line[],
  sizes: ZooSizes,
  say: (line: string) => void,
): Promise<readonly Line[]> {
  const measured: Line[] = [];
  for (const line of lines) {
    if (!line.row) {
      measured.push(line);
      continue;
    }
    const name = `${line.by}-${line.recipe}-speed`;
    const { answer, failed } = await steps.take<readonly Speed[]>(line.model, 'speed', name, {
      sizes,
      file: line.row.file,
    });
    say(`${line.model} ${line.by} ${line.recipe} speed${failed === null ? '' : `: ${failed}`}`);
    measured.push({ ...line, speeds: answer ?? [], failed });
  }
  return measured;
}

export async function twoAtATime<T>(all: readonly T[], work: (one: T) => Promise<void>): Promise<void> {
  const waiting = [...all];
  const worker = async (): Promise<void> => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) await work(next);
  };
  await Promise.all([worker(), worker()]);
}
