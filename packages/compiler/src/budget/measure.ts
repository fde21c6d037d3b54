import { join } from 'node:path';
import { type Board, loadBoard } from '@flotilla/boards';
import type { SessionInput, Tensors } from '@flotilla/runtime';
import { refuseCliffs } from '../cliff/refuse-cliffs.ts';
import { compareLatency } from '../compile/latency.ts';
import { lowerTo } from '../compile/lower-to.ts';
import type { CompileOptions } from '../compile/options.ts';
import { saveModel } from '../compile/save-model.ts';
import type { Source } from '../compile/source.ts';
import { reachVerdict } from '../compile/verdict.ts';
import type { DataSet } from '../data/data-set.ts';
import type { Judged } from '../evaluate/judge.ts';
import type { Metric } from '../metrics/metric.ts';
import type { Recipe } from '../recipe.ts';
import { floatShare } from '../int4/float-activations.ts';
import { applyRecipe, type CalibrationData } from '../runner.ts';

/** A recipe to be compared with others. */
export interface Candidate {
  readonly name: string;
  readonly recipe: Recipe;
  /** Whether one format holds for all nodes, as the built-in recipes have it. */
  readonly isSingle: boolean;
  /** The candidate that this one is but for the accuracy level of some nodes. */
  readonly levelsOf?: string | undefined;
}

/** What a candidate came to on the choosing split. */
export interface Point {
  readonly name: string;
  readonly single: boolean;
  /** Of the portable model. */
  readonly bytes: number;
  readonly score: number;
  /** Share of fp32's score. */
  readonly kept: number;
  /** Mean KL divergence of a language model, else noise over signal of the output that is worst off. */
  readonly noise: number;
  /**
   * Share of the products' 4-bit weights that multiply floats, at `accuracy_level` 1 and about a third of the speed; the
   * others multiply 8-bit integers, at level 4.
   */
  readonly inFloats: number;
  /** The point that this one is but for the accuracy level of some nodes. */
  readonly levelsOf?: string | undefined;
  /** Median run on this machine: fp32's over the speed-up beside it; null where no latency is asked for. */
  readonly p50Us: number | null;
}

/** Everything that all candidates share. */
export interface Bench {
  readonly folder: string;
  readonly source: Source;
  readonly fp32: Judged;
  readonly board: Board | undefined;
  readonly metric: Metric;
  readonly choose: DataSet;
  readonly calibrationData: CalibrationData | undefined;
  /** Undefined: no latency is asked for. */
  readonly timed: Timed | undefined;
}

/** How candidates are timed: beside fp32 in turns, so that what else the machine does hits both. */
export interface Timed {
  readonly feeds: (inputs: readonly SessionInput[]) => readonly Tensors[];
  /** fp32's median run, of the least disturbed round. */
  readonly fp32Us: number;
}

const FP32_ROUNDS = 5;

export async function timedBeside(
  { session }: Judged,
  feeds: Timed['feeds'],
  { signal }: CompileOptions,
): Promise<Timed> {
  let fp32Us = Infinity;
  for (let round = 0; round < FP32_ROUNDS; round++) {
    const { latency } = await session.measure(feeds(session.inputs), { seconds: 0.1, signal });
    fp32Us = Math.min(fp32Us, latency.summary().p50Us ?? Infinity);
  }
  return { feeds, fp32Us };
}

/** Of each model in each round: enough to tell 12 ms from 15. */
const SECONDS = 0.02;

/** Builds a candidate, lowers it for this machine, and compares it with fp32 on the choosing split. */
export async function measureCandidate(
  { name, recipe, isSingle, levelsOf }: Candidate,
  { folder, source, fp32, board, metric, choose, calibrationData, timed }: Bench,
  { threads = 1, signal }: CompileOptions,
): Promise<Point> {
  const { model } = await applyRecipe(source.model, recipe, { calibrationData, board, signal });
  const portable = await saveModel(model, join(folder, 'candidate.onnx'));
  const { tokenizer } = source;
  const host = await loadBoard('host');
  const lowered = await lowerTo(portable, host, { folder, threads, tokenizer, signal, name: 'candidate' });
  // What falls off the fast kernels is no candidate.
  refuseCliffs(lowered.cliffs, host, false);
  const quantized = await lowered.load();
  try {
    const found = await reachVerdict(metric, choose, { fp32, quantized, floor: 0 }, { signal });
    const { sqnrDb, language, quantized: score, kept } = found;
    const noise = language?.kld.mean ?? (sqnrDb === null ? 0 : 10 ** (-sqnrDb / 10));
    const sides = [fp32.session, quantized.session] as const;
    const beside = timed && (await compareLatency(...sides, timed.feeds, { seconds: SECONDS, signal }));
    const p50Us = timed && beside ? timed.fp32Us / beside.speedup : null;
    const figures = { bytes: portable.bytes, score, kept, noise, inFloats: floatShare(model.graph), p50Us };
    return { name, single: isSingle, ...figures, ...(levelsOf !== undefined && { levelsOf }) };
  } finally {
    await quantized.session.close();
  }
}
