import { join } from 'node:path';
import { type Board, loadBoard } from '@flotilla/boards';
import { type Model, openModel } from '@flotilla/onnx';
import type { Tensors } from '@flotilla/runtime';
import { suitableInputs } from '../calibrate/made-up-inputs.ts';
import { findUnfused } from '../cliff/find-unfused.ts';
import { refuseCliffs } from '../cliff/refuse-cliffs.ts';
import type { DataSet } from '../data/data-set.ts';
import type { Judged } from '../evaluate/judge.ts';
import { takeGolden } from './golden.ts';
import type { Golden } from './golden-tolerance.ts';
import type { Job } from './job.ts';
import type { PackedAdapter } from './beside.ts';
import { judgeAdapters } from './judge-adapters.ts';
import { compareLatency, type LatencyReport } from './latency.ts';
import { type LoweredFile, lowerTo } from './lower-to.ts';
import type { CompileOptions, CompileReport, MemoryFigures } from './options.ts';
import { latencyFeeds } from './samples.ts';
import type { SavedModel } from './save-model.ts';

/** What the recipe made: the result, and the fp32 model after clean-up where its speed is asked for. */
export interface Made {
  readonly portable: SavedModel;
  readonly cleaned: SavedModel | undefined;
  readonly adapters: readonly PackedAdapter[];
  /** Recipes that were compared before. */
  readonly candidates: number;
}

/** What was found out about the result. */
export interface Evidence extends Pick<CompileReport, 'verdict' | 'adapters' | 'latency' | 'memory'> {
  readonly golden: Golden;
  /** Whether this machine is of a class that the pack is for. */
  readonly onTarget: boolean;
  readonly warnings: readonly string[];
}

const NO_INPUTS = 'no inputs could be made up for this model: the pack has no golden vectors; give --data';

/** Lowers the result for this machine, judges it, takes golden vectors and measures it, all beside fp32. */
export async function assess(
  job: Job,
  { portable, cleaned, adapters, candidates }: Made,
  options: CompileOptions,
): Promise<Evidence> {
  const { fp32, source, folder, splits, boards } = job;
  const { signal, onProgress, threads = 1 } = options;
  const files = adapters.map(({ bytes }) => bytes);
  const lower: Lower = (model, board, name) => {
    const own = { adapters: model === portable ? files : [], name };
    return lowerTo(model, board, { folder, threads, tokenizer: source.tokenizer, signal, ...own });
  };
  const host = await lower(portable, await loadBoard('host'));
  const cliffs = [...refuseCliffs(host.cliffs, host.board, options.force === true)];
  // An optimized graph is written in one file, which ends at 2 GiB.
  const optimized = portable.files.length === 1 ? join(folder, 'optimized.onnx') : undefined;
  const quantized = await host.load({ optimizedPath: optimized });
  try {
    const judged = await judgeAdapters({ ...job, candidates }, quantized, adapters, options);
    const { verdict } = judged;
    onProgress?.({ step: 'golden', done: 0, total: undefined });
    const { isText } = source.folder;
    const data = verdict ? splits.judge?.data : splits.calibrate;
    // With the result's shapes: a recipe may have fixed some.
    const session = { inputs: quantized.session.inputs, run: (feeds: Tensors) => fp32.session.run(feeds) };
    const madeUp = isText || data ? [] : await suitableInputs(session, source.model.graph);
    const lowerResult = async (board: Board): Promise<LoweredFile> => {
      const lowered = await lower(portable, board);
      cliffs.push(...refuseCliffs(lowered.cliffs, board, options.force === true));
      return lowered;
    };
    const golden = await takeGolden(quantized, host, {
      boards,
      data,
      madeUp,
      adapters: adapters.map(({ name }) => name),
      lower: lowerResult,
    });
    const inputs = { data, isText, madeUp };
    const latency = await measure({ fp32, quantized, cleaned, inputs, lower, board: host.board }, options);
    return {
      verdict,
      ...(adapters.length > 0 && { adapters: judged.adapters }),
      golden,
      latency,
      memory: { fp32: await memoryOf(fp32), quantized: await memoryOf(quantized) },
      onTarget: boards.some(({ boardClass }) => boardClass === host.board.boardClass),
      warnings: [
        ...judged.warnings,
        ...cliffs,
        ...(optimized === undefined ? [] : unfusedWarnings(await openModel(optimized, { signal }))),
        ...(isText || data || madeUp.length > 0 ? [] : [NO_INPUTS]),
      ],
    };
  } finally {
    await quantized.session.close();
  }
}

/** Named at most; the others are counted. */
const NAMED = 5;

function unfusedWarnings({ graph }: Model): readonly string[] {
  const unfused = findUnfused(graph);
  const named = unfused.slice(0, NAMED).map(({ node, op, reason }) => `${op} ${node} runs in float here: ${reason}`);
  return unfused.length > NAMED ? [...named, `${unfused.length - NAMED} more run in float here`] : named;
}

type Lower = (model: SavedModel, board: Board, name?: string) => Promise<LoweredFile>;

interface Measured {
  readonly fp32: Judged;
  readonly quantized: Judged;
  readonly cleaned: SavedModel | undefined;
  readonly inputs: {
    readonly data: DataSet | undefined;
    readonly isText: boolean;
    readonly madeUp: readonly Tensors[];
  };
  readonly lower: Lower;
  readonly board: Board;
}

async function measure(
  { fp32, quantized, cleaned, inputs, lower, board }: Measured,
  { latencySeconds: seconds = 0.2, signal, onProgress }: CompileOptions,
): Promise<LatencyReport | null> {
  if (seconds === 0) return null;
  onProgress?.({ step: 'latency', done: 0, total: undefined });
  const feeds = await latencyFeeds(inputs);
  if (feeds(fp32.session.inputs).length === 0) return null;
  const alone = cleaned && (await (await lower(cleaned, board, 'cleaned')).load());
  try {
    return await compareLatency(fp32.session, quantized.session, feeds, { seconds, signal, cleaned: alone?.session });
  } finally {
    await alone?.session.close();
  }
}

async function memoryOf({ session }: Judged): Promise<MemoryFigures> {
  const { weightsBytes, peakRssBytes } = await session.memory();
  return { weightsBytes, peakRssBytes };
}
