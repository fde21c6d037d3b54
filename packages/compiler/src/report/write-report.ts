import { rename, rm, writeFile } from 'node:fs/promises';
import { arch, cpus, platform } from 'node:os';
import { dirname, resolve } from 'node:path';
import { loadBoard } from '@flotilla/boards';
import { openModel } from '@flotilla/onnx';
import { profileOperators, type Tensors } from '@flotilla/runtime';
import { observeActivations } from '../analyze/activations.ts';
import { TensorReader } from '../analyze/read-tensors.ts';
import { suitableInputs } from '../calibrate/made-up-inputs.ts';
import type { Job } from '../compile/job.ts';
import { lowerTo } from '../compile/lower-to.ts';
import type { CompileOptions, CompileReport } from '../compile/options.ts';
import { calibrationData, checkData, latencyFeeds } from '../compile/samples.ts';
import type { SavedModel } from '../compile/save-model.ts';
import { compareNodes } from '../debug/compare-nodes.ts';
import { firstDivergence } from '../debug/first-divergence.ts';
import { CompilerError } from '../errors.ts';
import { weightReports } from '../inspect/inspect.ts';
import { sessionInputs } from '../inspect/model-inputs.ts';
import type { Applied, CalibrationData } from '../runner.ts';
import { chosenRanges } from './chosen-ranges.ts';
import { reportPage } from './page.ts';
import type { ReportData } from './report-data.ts';

interface Made {
  readonly job: Job;
  readonly applied: Applied;
  readonly portable: SavedModel;
}

/** Enough for histograms that a person reads; the conversion itself calibrated on more. */
const SAMPLES = 8;
const NODE_SAMPLES = 4;
const PROFILED_RUNS = 20;

/**
 * Looks closer at what `compile` made and writes report.html, whole or not at all.
 * @throws {CompilerError} `compiler/output` where the file cannot be written
 */
export async function writeReport(
  path: string,
  report: CompileReport,
  made: Made,
  options: CompileOptions,
): Promise<void> {
  const page = reportPage(await gather(report, made, options));
  const beside = `${path}.part`;
  try {
    await writeFile(beside, page);
    await rename(beside, path);
  } catch (cause) {
    await rm(beside, { force: true });
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause);
    throw new CompilerError('compiler/output', `cannot write ${path}: ${code}`, {
      where: dirname(resolve(path)),
      cause,
    });
  }
}

async function gather(report: CompileReport, made: Made, options: CompileOptions): Promise<ReportData> {
  const { job, applied } = made;
  const { signal, onProgress } = options;
  const progress = (done: number, total: number | undefined): void => onProgress?.({ step: 'report', done, total });
  const { data, observedOn } = await samplesFor(job);
  const reader = new TensorReader();
  const weights = await weightReports(applied.cleaned, { reader, signal, progress });
  const ranges = chosenRanges(applied.model);
  const watched =
    data && (await observeActivations(applied.cleaned, data, { most: SAMPLES, bins: BINS, signal, progress }));
  const compared = data && (await compareNodes(applied.model, [applied.cleaned], data, { most: NODE_SAMPLES, signal }));
  return {
    report,
    machine: `${cpus()[0]?.model.trim() ?? 'unknown'}, ${cpus().length} cores, ${platform()} ${arch()}`,
    board: (await loadBoard('host')).boardClass,
    observedOn,
    samples: watched?.samples ?? 0,
    nodeSamples: compared?.samples ?? 0,
    activations: (watched?.activations ?? []).map((value) => ({ ...value, range: ranges.get(value.name) ?? null })),
    weights: weights.filter(({ sqnrDb }) => sqnrDb.int8 !== null),
    sampledBytes: reader.sampledBytes,
    nodes: compared?.nodes ?? [],
    floorDb: firstDivergence(compared?.nodes ?? [], undefined).floorDb,
    times: await profile(made, options),
  };
}

const BINS = 48;

/** Calibration data first: what judges is looked at only where there is nothing else, and after the verdict. */
async function samplesFor(
  job: Job,
): Promise<{ readonly data: CalibrationData | undefined; readonly observedOn: string }> {
  const { source, fp32, splits } = job;
  const { inputs } = fp32.session;
  const set = splits.calibrate ?? splits.judge?.data;
  if (set) {
    const observedOn = splits.calibrate ? 'the calibration data' : 'the evaluation data';
    return { data: calibrationData(set, inputs, source.tokenizer), observedOn };
  }
  if (source.tokenizer) return { data: checkData(inputs, source.tokenizer), observedOn: 'a sentence of our own' };
  const madeUp = await suitableInputs(fp32.session, source.model.graph);
  return { data: madeUp.length > 0 ? given(madeUp) : undefined, observedOn: 'made-up numbers' };
}

function given(samples: readonly Tensors[]): CalibrationData {
  return {
    async *samples() {
      for (const inputs of samples) yield { inputs };
    },
  };
}

/** Null where latency was not asked for, or nothing fits the model's inputs. */
async function profile({ job, portable }: Made, options: CompileOptions): Promise<ReportData['times']> {
  const { fp32, source, folder, splits } = job;
  const { latencySeconds = 0.2, threads = 1, signal, onProgress } = options;
  if (latencySeconds === 0) return null;
  onProgress?.({ step: 'profile', done: 0, total: undefined });
  const { isText } = source.folder;
  const data = splits.judge?.data ?? splits.calibrate;
  const madeUp = isText || data ? [] : await suitableInputs(fp32.session, source.model.graph);
  const feeds = await latencyFeeds({ data, isText, madeUp });
  if (feeds(fp32.session.inputs).length === 0) return null;
  const tokenizer = source.tokenizer;
  const lowered = await lowerTo(portable, await loadBoard('host'), {
    folder,
    threads,
    tokenizer,
    name: 'profiled',
    signal,
  });
  // Lowering may ask for a cache of another shape.
  const inputs = sessionInputs(await openModel(lowered.path));
  const runs = { threads, runs: PROFILED_RUNS };
  return {
    fp32: await profileOperators(fp32.session.modelPath, feeds(fp32.session.inputs), runs),
    quantized: await profileOperators(lowered.path, feeds(inputs), { ...runs, config: lowered.config }),
  };
}
