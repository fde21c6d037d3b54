import type { Board } from '@flotilla/boards';
import { checkModel, cloneModel, type Model, type ValueInfo } from '@flotilla/onnx';
import type { Tensors } from '@flotilla/runtime';
import { checkSample } from './calibrate/check-sample.ts';
import type { Analysis } from './analyze/weight-facts.ts';
import type { Calibration } from './calibrate/calibration.ts';
import { openModelSession } from './calibrate/model-session.ts';
import { CompilerError } from './errors.ts';
import { Kernels } from './kernels/kernels.ts';
import type { Note, PassContext, Stage } from './pass.ts';
import { floatsUnsaid } from './floats-unsaid.ts';
import { nodeLabels } from './node-key.ts';
import type { Recipe } from './recipe.ts';
import { findPass } from './registry.ts';
import { type RewriteCheck, verifyRewrite } from './verify-rewrite.ts';

/** What a `DataSet` has of interest here. */
export interface CalibrationData {
  samples(): AsyncIterable<{ readonly inputs: Tensors }>;
}

export interface ApplyOptions {
  readonly calibrationData?: CalibrationData | undefined;
  /** What the rewrites are checked on where there is no calibration data; passes never see it. */
  readonly checkData?: CalibrationData | undefined;
  readonly board?: Board | undefined;
  /** Default: one thread, results in memory. */
  readonly kernels?: Kernels | undefined;
  /** The model is never run: rewrites are not compared with the source. Default false. */
  readonly unrun?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

export interface Progress {
  readonly pass: string;
  readonly done: number;
  readonly total: number | undefined;
  /** What is counted; default: things of the pass. */
  readonly unit?: 'bytes' | undefined;
}

export interface Applied {
  readonly model: Model;
  /** The source after the rewrites alone: what clean-up gives, apart from quantization. */
  readonly cleaned: Model;
  readonly notes: readonly Note[];
  readonly warnings: readonly string[];
  /** How the rewrites were checked; undefined where the recipe has none. */
  readonly rewriteCheck: RewriteCheck | undefined;
  /** Undefined where the recipe has no pass `analyze`. */
  readonly analysis: Analysis | undefined;
}

/**
 * Runs a recipe on a copy of the model. Before the first pass that is no rewrite, the rewritten model's outputs are
 * compared with the source's on the first samples (or on made-up inputs where there is no data).
 * @throws {CompilerError} `compiler/rewrite-changed`, `compiler/recipe`, `compiler/calibration`, `compiler/weights` …
 */
export async function applyRecipe(model: Model, recipe: Recipe, options: ApplyOptions = {}): Promise<Applied> {
  const { calibrationData, checkData = calibrationData, board, signal, onProgress } = options;
  const { kernels = new Kernels(), unrun = false } = options;
  checkOrder(recipe);
  const work = cloneModel(model);
  const label = nodeLabels(model.graph);
  const notes: Note[] = [];
  const warnings: string[] = [];
  // Up to IR version 3 initializers are listed among the inputs; nobody feeds those.
  const fed = model.graph.inputs.filter(({ name }) => !model.graph.initializers.has(name));
  const reader = (data: CalibrationData | undefined) => data && (() => inputsOf(data, fed, signal));
  const samples = reader(calibrationData);
  let calibration: Calibration | undefined;
  let analysis: Analysis | undefined;
  let cleaned: Model | undefined;
  let rewriteCheck: RewriteCheck | undefined;
  let rewritten = false;

  const endRewrites = async (): Promise<Model> => {
    if (rewritten) {
      checkModel(work, { allowNan: true });
      rewriteCheck = unrun ? unverified : await verifyRewrite(model, work, reader(checkData));
      const { skipped } = rewriteCheck;
      if (skipped !== undefined) warnings.push(`clean-up was not compared with the source: ${skipped}; give --data`);
    }
    return cloneModel(work);
  };

  for (const [index, step] of recipe.passes.entries()) {
    signal?.throwIfAborted();
    const pass = findPass(step.pass);
    if (!pass) throw new CompilerError('compiler/recipe', `unknown pass "${step.pass}"`);
    if (pass.stage === 'rewrite') rewritten = true;
    else cleaned ??= await endRewrites();
    const floatModel = cleaned ?? model;
    const context: PassContext = {
      note: (node, reason, outcome = 'kept') => {
        notes.push({ pass: pass.name, node: label(node), op: node.opType, outcome, reason });
      },
      warn: (message) => {
        warnings.push(message);
      },
      samples,
      get calibration() {
        return calibration;
      },
      keepCalibration: (kept) => {
        calibration = kept;
      },
      keepAnalysis: (kept) => {
        analysis = kept;
      },
      floatModel,
      open: openModelSession,
      kernels,
      unrun,
      later: recipe.passes.slice(index + 1),
      board,
      progress: (done, total, unit) => onProgress?.({ pass: pass.name, done, total, unit }),
      signal,
    };
    await pass.run(work.graph, context, step.options);
  }
  cleaned ??= await endRewrites();
  checkModel(work, { allowNan: true });
  const last = recipe.passes.findLast(({ pass }) => findPass(pass)?.stage === 'convert');
  if (last) notes.push(...floatsUnsaid(work.graph, notes, { pass: last.pass, label }));
  return { model: work, cleaned, notes, warnings, rewriteCheck, analysis };
}

const unverified: RewriteCheck = {
  samples: 0,
  madeUp: true,
  worst: 0,
  skipped: 'the model is too large to be run for it',
};

const order: readonly Stage[] = ['rewrite', 'analyze', 'calibrate', 'convert'];

/** A rewrite after a conversion could not be told from the conversion's own error. */
function checkOrder(recipe: Recipe): void {
  let last: { name: string; stage: Stage } | undefined;
  for (const { pass: name } of recipe.passes) {
    const stage = findPass(name)?.stage ?? 'rewrite';
    if (last && stage === 'rewrite' && last.stage !== 'rewrite')
      throw new CompilerError('compiler/recipe', `pass ${name} rewrites the graph and must come before ${last.name}`);
    if (last && order.indexOf(stage) < order.indexOf(last.stage) && stage !== 'calibrate')
      throw new CompilerError('compiler/recipe', `pass ${name} (${stage}) must come before ${last.name}`);
    last = { name, stage };
  }
}

async function* inputsOf(
  data: CalibrationData,
  expected: readonly ValueInfo[],
  signal: AbortSignal | undefined,
): AsyncIterable<Tensors> {
  let count = 0;
  for await (const { inputs } of data.samples()) {
    signal?.throwIfAborted();
    checkSample(inputs, expected, count++);
    yield inputs;
  }
}
