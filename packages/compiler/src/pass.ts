import type { Board } from '@flotilla/boards';
import type { Graph, Model, Node } from '@flotilla/onnx';
import type { Session, Tensors } from '@flotilla/runtime';
import type { z } from 'zod';
import type { Analysis } from './analyze/weight-facts.ts';
import type { ModelSessionOptions } from './calibrate/model-session.ts';
import type { Calibration } from './calibrate/calibration.ts';
import type { Kernels } from './kernels/kernels.ts';
import type { RecipeStep } from './recipe.ts';

/**
 * Where a pass stands in the river; a recipe's passes come in this order. `rewrite` must not change what the model
 * computes: the runner compares its outputs with the source's before anything is converted.
 */
export type Stage = 'rewrite' | 'analyze' | 'calibrate' | 'convert';

/** What became of a node. `kept`: a rewrite left it alone; `float`: a conversion did. */
export type Outcome = 'quantized' | 'float' | 'rewritten' | 'kept';

/** One line of the report: which pass said what of which node. */
export interface Note {
  readonly pass: string;
  readonly node: string;
  readonly op: string;
  readonly outcome: Outcome;
  readonly reason: string;
}

/** What a pass may lean on beside the graph. */
export interface PassContext {
  /** Says why a node stays as it is, or what became of it; ends in the report. Outcome `kept` unless given. */
  readonly note: (node: Node, reason: string, outcome?: Outcome) => void;
  /** Says something of the whole conversion that the user should know. */
  readonly warn: (message: string) => void;
  /** Calibration samples, from the first one at each call; undefined where there are none. */
  readonly samples: (() => AsyncIterable<Tensors>) | undefined;
  /** What the `calibrate` pass measured; undefined before it ran. */
  readonly calibration: Calibration | undefined;
  /** Hands activation statistics to the passes that follow. */
  readonly keepCalibration: (calibration: Calibration) => void;
  /** Hands what the weights look like to the report. */
  readonly keepAnalysis: (analysis: Analysis) => void;
  /** The model as the rewrites left it, before the first conversion. Not to be edited. */
  readonly floatModel: Model;
  /** Loads a model to run samples through it. The caller closes it. */
  readonly open: (model: Model, options?: ModelSessionOptions) => Promise<Session>;
  /** Converts weights, on threads where there are some. */
  readonly kernels: Kernels;
  /** The model is too large to be run: what a pass would compare by running it, it says was not compared. */
  readonly unrun?: boolean | undefined;
  /** The steps of the recipe that follow: what is prepared here need not be more than they ask for. */
  readonly later: readonly RecipeStep[];
  /** The one board this is compiled for; undefined for a portable result. */
  readonly board: Board | undefined;
  /** `unit` says what is counted; default: things of the pass. */
  readonly progress: (done: number, total: number | undefined, unit?: 'bytes') => void;
  readonly signal: AbortSignal | undefined;
}

/** A function from graph to graph, registered by name. The runner hands it a graph of its own. */
export interface Pass<Options extends z.ZodType = z.ZodType> {
  readonly name: string;
  readonly stage: Stage;
  /** A strict object schema: an unknown option is an error. */
  readonly options: Options;
  run(graph: Graph, context: PassContext, options: z.output<Options>): Graph | Promise<Graph>;
}

/** Gives a pass literal its options' type. */
export function definePass<Options extends z.ZodType>(pass: Pass<Options>): Pass {
  return pass as unknown as Pass;
}
