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
import { applyRecipe, type CalibrationData } from '../runner.ts';

/** A recipe to be compared with others. */
export interface Candidate {
  readonly name: string;
  readonly recipe: Recipe;
  /** Whether one format holds for all nodes, as the built-in recipes have it. */
  readonly isSingle: boolean;
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
  /** Median run on this machine; null where no latency is asked for. */
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
  /** What latency is measured on, by a model's inputs; undefined: it is not. */
  readonly feeds: ((inputs: readonly SessionInput[]) => readonly Tensors[]) | undefined;
}

/** Of each model in each round: enough to tell 12 ms from 15. */
const SECONDS = 0.05;

/** Builds a candidate, lowers it for this machine, and compares it with fp32 on the choosing split. */
export async function measureCandidate(
  { name, recipe, isSingle }: Candidate,
  { folder, source, fp32, board, metric, choose, calibrationData, feeds }: Bench,
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
    const latency =
      feeds && (await compareLatency(fp32.session, quantized.session, feeds, { seconds: SECONDS, signal }));
    const p50Us = latency?.quantized.p50Us ?? null;
    return { name, single: isSingle, bytes: portable.bytes, score, kept, noise, p50Us };
  } finally {
    await quantized.session.close();
  }
}
