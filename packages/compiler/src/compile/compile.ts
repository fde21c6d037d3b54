import { join } from 'node:path';
import { type Board, loadBoard, listBoards } from '@flotilla/boards';
import { suitableInputs } from '../calibrate/made-up-inputs.ts';
import type { DataSet } from '../data/data-set.ts';
import { openData } from '../data/open-data.ts';
import type { Judged } from '../evaluate/judge.ts';
import { loadOnnx } from '../evaluate/load-onnx.ts';
import { chooseMetric } from '../metrics/choose.ts';
import { readKeys } from '../metrics/ctc-text.ts';
import { formatRecipe, type Recipe } from '../recipe.ts';
import { type Applied, applyRecipe } from '../runner.ts';
import { takeGolden } from './golden.ts';
import { compareLatency } from './latency.ts';
import { type LoweredFile, lowerTo } from './lower-to.ts';
import { countNodes } from './node-counts.ts';
import type { CompileOptions, CompileReport, Verdict } from './options.ts';
import { recipeOf, recipeWarnings } from './recipe-of.ts';
import { calibrationData, checkData, latencyFeeds } from './samples.ts';
import { type SavedModel, saveModel } from './save-model.ts';
import { mergeAdapters } from './merge-adapters.ts';
import { openSource, type Source } from './source.ts';
import { reachVerdict } from './verdict.ts';
import { inWorkFolder } from './work-folder.ts';
import { writeOutput } from './write-output.ts';

/**
 * From a model to a pack with its evidence: merge adapters, run the recipe, judge against fp32, lower for each class of
 * boards as a check, take golden vectors, measure latency beside fp32, write. The pack appears whole or not at all; a
 * verdict under the floor still writes it, and says so.
 * @param path an `.onnx` file or a folder in Hugging Face layout
 * @param out `.pack`: one tar; `.onnx`: the bare portable model; else a directory
 * @throws {CompilerError}, and what checkpoint, onnx, runtime, lowering and pack throw
 */
export async function compile(path: string, out: string, options: CompileOptions = {}): Promise<CompileReport> {
  const start = performance.now();
  const recipe = await recipeOf(options);
  const boards = await boardsOf(options.boards);
  return inWorkFolder(out, async (folder) => {
    const job = await openJob(path, { folder, recipe, boards }, options);
    try {
      const applied = await convert(job, options);
      const portable = await saveModel(applied.model, join(folder, 'model.onnx'));
      const evidence = await assess(job, portable, options);
      const { verdict, latency } = evidence;
      const report = {
        model: { path, bytes: job.source.bytes, parameters: job.source.parameters },
        ratio: portable.bytes / job.source.bytes,
        recipe: formatRecipe(recipe),
        ...countNodes(applied.notes),
        notes: applied.notes,
        warnings: [...job.warnings, ...applied.warnings],
        verdict,
      };
      options.onProgress?.({ step: 'pack', done: 0, total: undefined });
      const { source } = job;
      const weights = options.recipe === undefined ? (options.weights ?? 'int8') : recipe.name;
      const annotations = annotationsOf(options, job);
      const parts = { source, portable, weights, golden: evidence.golden, report, annotations };
      const written = await writeOutput(out, parts, options);
      return {
        ...report,
        pack: { path: out, ...written, modelBytes: portable.bytes },
        latency,
        seconds: (performance.now() - start) / 1000,
        peakRssBytes: process.resourceUsage().maxRSS * 1024,
      };
    } finally {
      await job.fp32.session.close();
    }
  });
}

/** What stays the same through one compilation. */
interface Job {
  readonly folder: string;
  readonly recipe: Recipe;
  readonly boards: readonly Board[];
  /** The model with its adapters merged. */
  readonly source: Source;
  readonly fp32: Judged;
  readonly calibration: DataSet | undefined;
  readonly evaluation: DataSet | undefined;
  /** Beside those of the passes. */
  readonly warnings: string[];
}

const NO_INPUTS = 'no inputs could be made up for this model: the pack has no golden vectors; give --data';

async function openJob(
  path: string,
  plan: Pick<Job, 'folder' | 'recipe' | 'boards'>,
  options: CompileOptions,
): Promise<Job> {
  const { signal, threads = 1 } = options;
  options.onProgress?.({ step: 'load', done: 0, total: undefined });
  const source = await openSource(path, signal);
  const isMerged = (await mergeAdapters(source, options)).length > 0;
  const merged = join(plan.folder, 'fp32.onnx');
  if (isMerged) await saveModel(source.model, merged);
  const fp32 = await loadOnnx(isMerged ? merged : source.folder.onnxPath, source.tokenizer, { threads, signal });
  try {
    const { inputs } = fp32.session;
    const open = async (data: string | undefined): Promise<DataSet | undefined> =>
      data === undefined ? undefined : openData(data, { inputs });
    return {
      ...plan,
      source,
      fp32,
      calibration: await open(options.data),
      evaluation: await open(options.eval),
      warnings: recipeWarnings(options),
    };
  } catch (error) {
    await fp32.session.close();
    throw error;
  }
}

async function convert(job: Job, { signal, onProgress }: CompileOptions): Promise<Applied> {
  const { source, recipe, boards, calibration, evaluation } = job;
  const { inputs } = job.fp32.session;
  return applyRecipe(source.model, recipe, {
    calibrationData: calibration && calibrationData(calibration, inputs, source.tokenizer),
    checkData: calibration || !source.tokenizer ? undefined : checkData(evaluation, inputs, source.tokenizer),
    board: boards.length === 1 ? boards[0] : undefined,
    signal,
    onProgress: ({ pass, done, total }) => onProgress?.({ step: pass, done, total }),
  });
}

async function assess(
  job: Job,
  portable: SavedModel,
  options: CompileOptions,
): Promise<Pick<CompileReport, 'verdict' | 'latency'> & { readonly golden: Awaited<ReturnType<typeof takeGolden>> }> {
  const { fp32, source, folder, evaluation, calibration } = job;
  const { signal, onProgress, threads = 1 } = options;
  const { isText } = source.folder;
  const lower = (board: Board): Promise<LoweredFile> =>
    lowerTo(portable, board, { folder, threads, tokenizer: source.tokenizer, signal });
  const host = await lower(await loadBoard('host'));
  const quantized = await host.load();
  try {
    const data = evaluation ?? calibration;
    const madeUp = isText || data ? [] : await suitableInputs(fp32.session, source.model.graph);
    if (!isText && !data && madeUp.length === 0) job.warnings.push(NO_INPUTS);
    const verdict = await judgeBoth(job, quantized, options);
    onProgress?.({ step: 'golden', done: 0, total: undefined });
    const golden = await takeGolden(quantized, host, { boards: job.boards, data, madeUp, lower });
    const seconds = options.latencySeconds ?? 0.2;
    if (seconds === 0) return { verdict, golden, latency: null };
    onProgress?.({ step: 'latency', done: 0, total: undefined });
    const feeds = await latencyFeeds(fp32.session, { data, isText, madeUp });
    if (feeds.length === 0) return { verdict, golden, latency: null };
    const latency = await compareLatency(fp32.session, quantized.session, feeds, { seconds, signal });
    if (latency.speedup < SLOWER) job.warnings.push(slowerWarning(latency.speedup));
    return { verdict, golden, latency };
  } finally {
    await quantized.session.close();
  }
}

/** Below, it is no longer noise: medians of rounds measured in turns repeat to a few percent. */
const SLOWER = 0.95;

function slowerWarning(speedup: number): string {
  return `slower than fp32 on this machine: ${speedup.toFixed(2)} times its speed; --weights int4 or fp32 may serve better`;
}

async function judgeBoth(
  { evaluation, fp32 }: Job,
  quantized: Judged,
  options: CompileOptions,
): Promise<Verdict | null> {
  if (!evaluation) return null;
  const keys = options.keys === undefined ? undefined : await readKeys(options.keys);
  const metric = await chooseMetric(options.metric, evaluation, keys);
  const { floor = 0.98, signal, onProgress } = options;
  const progress = (done: number, total: number | undefined): void => onProgress?.({ step: 'evaluate', done, total });
  return reachVerdict(metric, evaluation, { fp32, quantized, floor }, { signal, progress });
}

async function boardsOf(names: readonly string[] | undefined): Promise<readonly Board[]> {
  return names === undefined ? listBoards() : Promise.all(names.map((name) => loadBoard(name)));
}

function annotationsOf({ lora = [] }: CompileOptions, { recipe, boards }: Job): { readonly [key: string]: string } {
  const adapters = lora.map(({ dir, weight = 1 }) => `${dir.split('/').findLast((part) => part !== '')}:${weight}`);
  return {
    recipe: recipe.name,
    boards: boards.map(({ name }) => name).join(','),
    ...(adapters.length > 0 && { lora: adapters.join(',') }),
  };
}
