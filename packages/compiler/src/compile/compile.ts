import { join } from 'node:path';
import { type Board, type BoardClass, listBoards, loadBoard } from '@flotilla/boards';
import type { DataSet } from '../data/data-set.ts';
import { openData } from '../data/open-data.ts';
import type { Judged } from '../evaluate/judge.ts';
import { loadOnnx } from '../evaluate/load-onnx.ts';
import { chooseMetric } from '../metrics/choose.ts';
import { readKeys } from '../metrics/ctc-text.ts';
import { formatRecipe } from '../recipe.ts';
import { applyRecipe } from '../runner.ts';
import { answersOf, planGolden, tolerances, worstDifference } from './golden.ts';
import { compareLatency } from './latency.ts';
import { loadLowered, type LowerOptions } from './lower-to.ts';
import { countNodes } from './node-counts.ts';
import type { CompileOptions, CompileReport, Verdict } from './options.ts';
import { recipeOf } from './recipe-of.ts';
import { calibrationData, latencyFeeds } from './samples.ts';
import { saveModel } from './save-model.ts';
import { mergeAdapters, openSource } from './source.ts';
import { reachVerdict } from './verdict.ts';
import { inWorkFolder } from './work-folder.ts';
import { writeOutput } from './write-output.ts';

/**
 * From a model to a pack with its evidence: merge adapters, run the recipe, judge against fp32, lower for each board class
 * as a check, take golden vectors, measure latency beside fp32, write. The pack appears whole or not at all; a verdict
 * under the floor still writes it, and says so.
 * @param path an `.onnx` file or a folder in Hugging Face layout
 * @param out `.pack`: one tar; `.onnx`: the bare portable model; else a directory
 * @throws {CompilerError}, and what checkpoint, onnx, runtime, lowering and pack throw
 */
export async function compile(path: string, out: string, options: CompileOptions = {}): Promise<CompileReport> {
  const start = performance.now();
  const recipe = await recipeOf(options);
  const boards = await boardsOf(options.boards);
  const progress = (step: string, done = 0, total?: number): void => options.onProgress?.({ step, done, total });
  return inWorkFolder(out, async (folder) => {
    progress('load');
    const source = await openSource(path, options.signal);
    const merged = await mergeAdapters(source.model, options.lora ?? []);
    const fp32Path = merged ? join(folder, 'fp32.onnx') : source.folder.onnxPath;
    if (merged) await saveModel(source.model, fp32Path);
    const { threads = 1, signal } = options;
    const opened: Judged[] = [];
    try {
      const fp32 = await loadOnnx(fp32Path, source.tokenizer, { threads, signal });
      opened.push(fp32);
      const data = await openDataSets(options, fp32);
      const applied = await applyRecipe(source.model, recipe, {
        calibrationData: data.calibration && calibrationData(data.calibration, fp32.session.inputs, source.tokenizer),
        board: options.boards?.length === 1 ? boards[0] : undefined,
        signal,
        onProgress: ({ pass, done, total }) => progress(pass, done, total),
      });
      const portable = await saveModel(applied.model, join(folder, 'model.onnx'));
      const lowerOptions: LowerOptions = { folder, threads, tokenizer: source.tokenizer, signal };
      const host = await loadBoard('host');
      const quantized = await loadLowered(join(folder, 'model.onnx'), host, lowerOptions);
      opened.push(quantized);
      const verdict = await judgeBoth(fp32, quantized, data.eval, options, progress);
      progress('golden');
      const golden = await makeGolden(quantized, host, data.eval ?? data.calibration, {
        boards,
        portable: join(folder, 'model.onnx'),
        lower: lowerOptions,
      });
      progress('latency');
      const feeds = await latencyFeeds(fp32.session, data.eval ?? data.calibration, source.folder.isText);
      const latency = await compareLatency(fp32.session, quantized.session, feeds, { signal });
      progress('pack');
      const report = {
        model: { path, bytes: source.bytes, parameters: source.parameters },
        ratio: portable.bytes / source.bytes,
        recipe: formatRecipe(recipe),
        ...countNodes(applied.notes),
        notes: applied.notes,
        warnings: applied.warnings,
        verdict,
      };
      const written = await writeOutput(
        out,
        {
          source,
          modelFiles: portable.files,
          modelBytes: portable.bytes,
          weights: options.recipe === undefined ? (options.weights ?? 'int8') : recipe.name,
          golden,
          report,
          annotations: annotationsOf(options, recipe.name, boards),
        },
        options,
      );
      return {
        ...report,
        pack: { path: out, ...written, modelBytes: portable.bytes },
        latency,
        seconds: (performance.now() - start) / 1000,
        peakRssBytes: process.resourceUsage().maxRSS * 1024,
      };
    } finally {
      await Promise.all(opened.map(({ session }) => session.close()));
    }
  });
}

interface DataSets {
  readonly calibration: DataSet | undefined;
  readonly eval: DataSet | undefined;
}

async function openDataSets(options: CompileOptions, { session: { inputs } }: Judged): Promise<DataSets> {
  return {
    calibration: options.data === undefined ? undefined : await openData(options.data, { inputs }),
    eval: options.eval === undefined ? undefined : await openData(options.eval, { inputs }),
  };
}

async function judgeBoth(
  fp32: Judged,
  quantized: Judged,
  data: DataSet | undefined,
  options: CompileOptions,
  progress: (step: string, done?: number, total?: number) => void,
): Promise<Verdict | null> {
  if (!data) return null;
  const keys = options.keys === undefined ? undefined : await readKeys(options.keys);
  const metric = await chooseMetric(options.metric, data, keys);
  const { floor = 0.98, signal } = options;
  return reachVerdict(
    metric,
    data,
    { fp32, quantized, floor },
    {
      signal,
      progress: (done, total) => progress('evaluate', done, total),
    },
  );
}

/** One board a class: kernels, and so numbers, differ by class and not by board. */
async function makeGolden(
  quantized: Judged,
  host: Board,
  data: DataSet | undefined,
  { boards, portable, lower }: { boards: readonly Board[]; portable: string; lower: LowerOptions },
): Promise<{ cases: Awaited<ReturnType<typeof answersOf>>; tolerance: ReturnType<typeof tolerances> }> {
  const plan = await planGolden(quantized, data);
  const cases = await answersOf(quantized, plan);
  const measured = new Map<BoardClass, number>([[host.boardClass, 0]]);
  for (const board of boards) {
    if (measured.has(board.boardClass)) continue;
    const lowered = await loadLowered(portable, board, lower);
    try {
      measured.set(board.boardClass, worstDifference(await answersOf(lowered, plan), cases));
    } finally {
      await lowered.session.close();
    }
  }
  return { cases, tolerance: tolerances(measured) };
}

async function boardsOf(names: readonly string[] | undefined): Promise<readonly Board[]> {
  return names === undefined ? listBoards() : Promise.all(names.map((name) => loadBoard(name)));
}

function annotationsOf(options: CompileOptions, recipe: string, boards: readonly Board[]): { [key: string]: string } {
  const adapters = (options.lora ?? []).map(({ dir, weight = 1 }) => `${dir.split('/').at(-1)}:${weight}`);
  return {
    recipe,
    boards: boards.map(({ name }) => name).join(','),
    ...(adapters.length > 0 && { lora: adapters.join(',') }),
  };
}
