import type { Job } from '../compile/job.ts';
import type { CompileOptions } from '../compile/options.ts';
import { calibrationData, latencyFeeds } from '../compile/samples.ts';
import type { DataSet } from '../data/data-set.ts';
import { CompilerError } from '../errors.ts';
import { chooseMetric } from '../metrics/choose.ts';
import { readKeys } from '../metrics/ctc-text.ts';
import { builtInRecipe, type Recipe } from '../recipe.ts';
import { applyRecipe } from '../runner.ts';
import { firstOf } from '../splits/every-fourth.ts';
import { type BudgetReport, explain } from './budget-report.ts';
import { choosePoint, levelBases, paretoFront } from './choose.ts';
import { FORMATS } from './formats.ts';
import { levelGains, withLevels } from './levels.ts';
import { type Bench, type Candidate, measureCandidate, type Point, timedBeside } from './measure.ts';
import type { Limit } from './parse-budget.ts';
import { type Choice, referenceOf, sensitivities } from './sensitivity.ts';
import { singleFormats } from './single-formats.ts';
import { staticExcept, staticNoises } from './static-int8.ts';
import { fill, type Plan, sweep } from './sweep.ts';
import { type Unit, unitsOf } from './units.ts';

/** Samples that sensitivities are measured on, and that candidates are compared on. */
const SENSED = 6;
const COMPARED = 64;
/** Plans along the sweep that are measured for the front, and steps of the bisection for an accuracy. */
const ALONG = 4;
const STEPS = 4;

const DATA_FAULTS: ReadonlySet<string> = new Set(['compiler/data', 'compiler/metric']);

/**
 * Finds the recipe that a budget asks for: every node's sensitivity on the choosing split, plans by bit allocation, then
 * the single formats and the plans of interest built and compared for real. The judging split is not touched.
 * @throws {CompilerError} `compiler/budget` without data to choose on
 */
export async function searchBudget(
  job: Job,
  limits: readonly Limit[],
  options: CompileOptions,
): Promise<{ readonly recipe: Recipe; readonly report: BudgetReport }> {
  const bench = await openBench(job, limits, options);
  const points: Point[] = [];
  const candidates = new Map<string, Candidate>();
  const failed: string[] = [];
  const measure = async (candidate: Candidate): Promise<Point | undefined> => {
    const known = points.find(({ name }) => name === candidate.name);
    if (known || failed.includes(candidate.name)) return known;
    options.onProgress?.({ step: `budget: ${candidate.name}`, done: points.length, total: undefined });
    try {
      const point = await measureCandidate(candidate, bench, options);
      candidates.set(point.name, candidate);
      points.push(point);
      return point;
    } catch (error) {
      // A recipe that does not suit the model is no candidate; data and metric are the user's, and theirs to mend.
      if (!(error instanceof CompilerError) || DATA_FAULTS.has(error.code)) throw error;
      failed.push(candidate.name);
      return undefined;
    }
  };
  for (const single of singleFormats(bench.calibrationData !== undefined)) await measure(single);
  const space = await sense(job, bench, options);
  await measureMixed(space, limits, measure);
  for (const { name } of levelBases(points, limits)) {
    const base = candidates.get(name);
    for (const candidate of base ? withLevels(base, space.units, space.levelGains) : []) await measure(candidate);
  }
  const [first, ...others] = points;
  if (!first) throw new CompilerError('compiler/budget', 'no recipe suits this model');
  const { point, met } = choosePoint([first, ...others], limits);
  const report: BudgetReport = {
    limits,
    met,
    candidates: points.length,
    samples: bench.choose.length ?? null,
    sensitivities: space.units.map((_, i) => sensitivityOf(space, i)),
    points,
    front: paretoFront(points).map(({ name }) => name),
    chosen: point.name,
    why: explain(point, { points, limits, met }),
  };
  return { recipe: (candidates.get(point.name) as Candidate).recipe, report };
}

async function openBench(
  { folder, source, fp32, boards, splits }: Job,
  limits: readonly Limit[],
  options: CompileOptions,
): Promise<Bench> {
  const { inputs } = fp32.session;
  const choose = splits.choose && firstOf(splits.choose, COMPARED);
  if (!choose || choose.length === 0) {
    const message = 'a budget chooses between candidates, and there is no data to compare them on';
    throw new CompilerError('compiler/budget', message, { hint: 'give --data: a quarter of it is for choosing' });
  }
  const keys = options.keys === undefined ? undefined : await readKeys(options.keys);
  const { isText } = source.folder;
  const isTimed = limits.some(({ key }) => key === 'latency');
  return {
    folder,
    source,
    fp32,
    board: boards.length === 1 ? boards[0] : undefined,
    metric: await chooseMetric(options.metric, choose, keys),
    choose,
    calibrationData: splits.calibrate && calibrationData(splits.calibrate, inputs, source.tokenizer),
    timed: isTimed
      ? await timedBeside(fp32, await latencyFeeds({ data: choose, isText, madeUp: [] }), options)
      : undefined,
  };
}

/** What the mixed candidates are made from. */
interface Space {
  readonly units: readonly Unit[];
  readonly table: readonly (readonly Choice[])[];
  readonly plans: readonly Plan[];
  /** What float activations would take from each unit's noise in int4. */
  readonly levelGains: readonly number[];
  /** Of each unit alone in static int8; empty where there is none. */
  readonly staticNoises: readonly number[];
}

async function sense({ source, fp32 }: Job, bench: Bench, options: CompileOptions): Promise<Space> {
  const { isText } = source.folder;
  const cleaned = (await applyRecipe(source.model, builtInRecipe('fp32', undefined), { signal: options.signal })).model;
  const units = unitsOf(cleaned.graph);
  const sensed: DataSet = firstOf(bench.choose, SENSED);
  const feeds = [];
  for await (const { inputs } of calibrationData(sensed, fp32.session.inputs, source.tokenizer).samples())
    feeds.push(inputs);
  const reference = await referenceOf(cleaned, feeds, isText);
  const { signal } = options;
  const progress = (done: number, total: number): void =>
    options.onProgress?.({ step: 'budget: sensitivity', done, total });
  const table = await sensitivities(cleaned, units, reference, { signal, progress });
  const data = isText ? undefined : bench.calibrationData;
  return {
    units,
    table,
    plans: sweep(table),
    levelGains: await levelGains(cleaned, units, reference, { progress }),
    staticNoises: data
      ? await staticNoises(cleaned, units, reference, { calibrationData: data, signal, progress })
      : [],
  };
}

async function measureMixed(
  { units, table, plans, staticNoises: noises }: Space,
  limits: readonly Limit[],
  measure: (candidate: Candidate) => Promise<Point | undefined>,
): Promise<void> {
  // Nothing to mix: all weights are small, or computed.
  if (units.length === 0) return;
  const mixed = (plan: Plan): Promise<Point | undefined> => measure(candidateOf(plan, units, table));
  for (let i = 1; i <= ALONG; i++) {
    const plan = plans[Math.round((i / (ALONG + 1)) * (plans.length - 1))];
    if (plan) await mixed(plan);
  }
  for (const { key, value } of limits) {
    if (key === 'size') await fit(value, (bytes) => fill(table, plans, bytes), mixed);
    if (key === 'accuracy') await bisect(plans, async (plan) => ((await mixed(plan))?.kept ?? 0) >= value);
  }
  // Integer arithmetic is what speed comes from; the nodes that suffer most from it leave first.
  const worst = units.map((_, i) => i).toSorted((a, b) => (noises[b] ?? 0) - (noises[a] ?? 0));
  for (const share of noises.length < 4 ? [] : [1 / 8, 1 / 4, 1 / 2]) {
    const left = worst.slice(0, Math.max(1, Math.round(share * worst.length)));
    const nodes = left.flatMap((unit) => units[unit]?.nodes ?? []);
    await measure({ name: `int8, ${nodes.length} nodes float`, recipe: staticExcept(nodes), isSingle: false });
  }
}

/** What a plan comes to is known when it is built: once more with what the estimate was off by. */
async function fit(
  bytes: number,
  planFor: (bytes: number) => Plan | undefined,
  measure: (plan: Plan) => Promise<Point | undefined>,
): Promise<void> {
  const first = planFor(bytes);
  if (!first) return;
  const made = await measure(first);
  if (!made) return;
  const off = made.bytes - first.bytes;
  const second = planFor(bytes - off);
  if (second && second.picks.join() !== first.picks.join()) await measure(second);
}

/** The smallest plan that holds, if more bytes never keep less. */
async function bisect(plans: readonly Plan[], holds: (plan: Plan) => Promise<boolean>): Promise<void> {
  let [low, high] = [0, plans.length - 1];
  for (let step = 0; step < STEPS && low <= high; step++) {
    const middle = Math.floor((low + high) / 2);
    if (await holds(plans[middle] as Plan)) high = middle - 1;
    else low = middle + 1;
  }
}

/** One pass a format, with the nodes that get it: `--recipe` runs it again. */
function candidateOf({ picks }: Plan, units: readonly Unit[], table: readonly (readonly Choice[])[]): Candidate {
  const counts: string[] = [];
  const steps = FORMATS.flatMap((format) => {
    const nodes = units.flatMap((unit, i) => (table[i]?.[picks[i] ?? 0]?.format === format ? unit.nodes : []));
    if (nodes.length > 0) counts.push(`${nodes.length} ${format.name}`);
    const step = nodes.length > 0 ? format.step(nodes, 'auto') : undefined;
    return step ? [step] : [];
  });
  const passes = [...builtInRecipe('fp32', undefined).passes, ...steps];
  // Two plans may have the same counts.
  const name = `mixed ${picks.join('')}: ${counts.join(', ')}`;
  return { name, recipe: { name: 'mixed', passes }, isSingle: false };
}

function sensitivityOf(
  { units, table, levelGains: gains }: Space,
  unit: number,
): BudgetReport['sensitivities'][number] {
  const formats = (table[unit] ?? []).map(({ format, noise }) => ({ format: format.name, noise }));
  return { nodes: units[unit]?.nodes ?? [], formats, levelGain: gains[unit] ?? 0 };
}
