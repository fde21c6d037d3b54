import { mkdir } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { basename, join } from 'node:path';
import { type Board, loadBoard, listBoards } from '@flotilla/boards';
import { Kernels } from '../kernels/kernels.ts';
import { writeReport } from '../report/write-report.ts';
import { requantizationOf } from '../lora/requantization.ts';
import { formatRecipe } from '../recipe.ts';
import { type Applied, applyRecipe } from '../runner.ts';
import { accuracyOf, overrun, parseBudget } from '../budget/parse-budget.ts';
import { searchBudget } from '../budget/search.ts';
import { assess } from './assess.ts';
import { assessUnrun } from './assess-unrun.ts';
import { packAdapters } from './beside.ts';
import { inputsDigest } from './inputs-digest.ts';
import { type Job, openJob } from './job.ts';
import { countNodes } from './node-counts.ts';
import { checkLoraMode } from './lora-mode.ts';
import { objectionsTo } from './objections.ts';
import type { CompileOptions, CompileReport } from './options.ts';
import { rebuildOnBase } from './rebuild.ts';
import { recipeOf } from './recipe-of.ts';
import { reportInPack } from './report-in-pack.ts';
import { calibrationData, checkData } from './samples.ts';
import { saveModel } from './save-model.ts';
import { growthWarnings } from './size-rules.ts';
import { openSource } from './source.ts';
import { inWorkFolder } from './work-folder.ts';
import { checkOutput, writeOutput } from './write-output.ts';

/**
 * From a model to a pack with its evidence: merge adapters, run the recipe, judge against fp32, lower for each class of
 * boards as a check, take golden vectors, measure latency beside fp32, write. The pack appears whole or not at all; a
 * verdict under the floor still writes it, and says so.
 * @param path an `.onnx` file or a folder in Hugging Face layout
 * @param out `.pack`: one tar; `.onnx`: the bare portable model; else a directory
 * @throws {CompilerError}, and what checkpoint, onnx, runtime, lowering and pack throw
 */
export async function compile(path: string, out: string, asked: CompileOptions = {}): Promise<CompileReport> {
  const start = performance.now();
  const limits = (asked.budget ?? []).map(parseBudget);
  const options = { ...asked, floor: asked.floor ?? accuracyOf(limits) ?? 0.98 };
  checkLoraMode(out, options);
  const recipe = await recipeOf(options);
  const boards = await boardsOf(options.boards);
  const source = await openSource(path, options.signal);
  const digest = await inputsDigest(source, recipe, options);
  return inWorkFolder(out, { digest, resume: options.resume ?? false }, async (folder) => {
    const opened = await openJob(source, { folder, recipe, boards }, options);
    const { threads = availableParallelism(), signal } = options;
    const kernels = new Kernels({ threads, folder, signal });
    try {
      await checkOutput(out, opened.source, options);
      const found = limits.length > 0 ? await searchBudget(opened, limits, options) : undefined;
      const job = found ? { ...opened, recipe: found.recipe } : opened;
      const converted = await convert(job, kernels, options);
      const rebuilt = await rebuildOnBase(job, converted, options);
      const applied = rebuilt?.applied ?? converted;
      // A bare model is renamed from where it is written; a pack is a copy, flushed itself.
      const flush = out.endsWith('.onnx');
      const portable =
        rebuilt?.portable ?? (await saveModel(applied.model, await portablePath(folder, out), { flush }));
      const cleans = !job.unrun && (options.latencySeconds ?? 0.2) > 0 && options.cleanupLatency !== false;
      const cleaned = cleans ? await saveModel(applied.cleaned, join(folder, 'cleaned.onnx')) : undefined;
      const adapters = rebuilt ? [] : await packAdapters(job.beside, applied, portable);
      const candidates = found?.report.candidates ?? 1;
      const evidence = job.unrun
        ? await assessUnrun(job, portable, options)
        : await assess(job, { portable, cleaned, adapters, candidates }, options);
      const { verdict, latency, memory } = evidence;
      const report = {
        model: { path, bytes: job.source.bytes, parameters: job.source.parameters },
        ratio: portable.bytes / job.source.bytes,
        base: baseOf(options, job),
        requantization: isMerged(options) ? requantizationOf(applied.cleaned.graph, applied.model.graph) : null,
        recipe: formatRecipe(job.recipe),
        ...countNodes(applied.notes),
        notes: applied.notes,
        ...(applied.analysis && { analysis: applied.analysis }),
        warnings: [
          ...job.warnings,
          ...job.splits.warnings,
          ...applied.warnings,
          ...evidence.warnings,
          ...growthWarnings(countNodes(applied.notes).nodes, portable.bytes, job.source.bytes),
        ],
        verdict,
        ...(evidence.adapters && { adapters: evidence.adapters }),
        ...(rebuilt && { rebuild: rebuilt.report }),
      };
      options.onProgress?.({ step: 'pack', done: 0, total: undefined });
      const { source } = job;
      const isNamed = found !== undefined || options.recipe !== undefined;
      const weights = rebuilt?.weights ?? (isNamed ? job.recipe.name : (options.weights ?? 'int8'));
      const annotations = annotationsOf(options, job);
      const { factors } = rebuilt ?? {};
      const { golden } = evidence;
      const packed = reportInPack(report);
      const parts = { source, portable, adapters, factors, weights, golden, report: packed, annotations };
      const written = await writeOutput(out, parts, options);
      const result = {
        ...report,
        pack: { path: out, ...written, modelBytes: portable.bytes },
        latency,
        memory,
        ...(found && { budget: found.report }),
        objections: [
          ...objectionsTo({ ...report, latency }, { floor: options.floor, onTarget: evidence.onTarget }),
          ...limits.flatMap((limit) => overrun(limit, portable.bytes, latency)),
        ],
        seconds: (performance.now() - start) / 1000,
        resumedBytes: kernels.resumedBytes,
        peakRssBytes: peakRss(memory),
      };
      if (options.reportHtml !== undefined)
        await writeReport(options.reportHtml, result, { job, applied, portable }, options);
      return result;
    } finally {
      await kernels.close();
      await opened.fp32.session.close();
    }
  });
}

/** A bare model has its own name from the start: that of the data beside it is in the graph. */
async function portablePath(folder: string, out: string): Promise<string> {
  const within = join(folder, 'portable');
  await mkdir(within);
  return join(within, out.endsWith('.onnx') ? basename(out) : 'model.onnx');
}

/** Of this process and those that held the models, as if all had peaked at once. */
function peakRss(memory: CompileReport['memory']): number {
  const children = memory ? memory.fp32.peakRssBytes + memory.quantized.peakRssBytes : 0;
  return process.resourceUsage().maxRSS * 1024 + children;
}

async function convert(job: Job, kernels: Kernels, { signal, onProgress }: CompileOptions): Promise<Applied> {
  const { source, recipe, boards, splits } = job;
  const { inputs } = job.fp32.session;
  const { tokenizer } = source;
  return applyRecipe(source.model, recipe, {
    calibrationData: splits.build && calibrationData(splits.build, inputs, tokenizer),
    checkData: splits.build || !tokenizer ? undefined : checkData(inputs, tokenizer),
    board: boards.length === 1 ? boards[0] : undefined,
    kernels,
    unrun: job.unrun,
    signal,
    onProgress: ({ pass, ...rest }) => onProgress?.({ step: pass, ...rest }),
  });
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

function baseOf({ base: path }: CompileOptions, { base }: Job): CompileReport['base'] {
  return path === undefined || !base ? null : { path, tensors: base.tensors, fourBit: base.fourBit };
}

function isMerged({ base, lora = [], loraMode }: CompileOptions): boolean {
  return base !== undefined || (lora.length > 0 && loraMode !== 'branch');
}
