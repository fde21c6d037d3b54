import type { DecodeAnswer, DecodeStep } from './decoder.ts';
import type { RuntimeErrorCode } from './errors.ts';
import type { LoweringPlan } from './lower-file.ts';
import type { RebuildPlan } from './rebuild-model.ts';
import type { MeasureOptions, Memory, SessionInput, SessionOptions, Tensors } from './types.ts';

/** What a parent asks of the process that holds its model; one at a time, except `stop`. */
export type Request =
  | { readonly kind: 'load'; readonly modelPath: string; readonly options: SessionOptions }
  | {
      readonly kind: 'run';
      readonly feeds: Tensors;
      readonly fetches: readonly string[] | undefined;
      readonly adapter: string | null;
    }
  | { readonly kind: 'lower'; readonly plan: LoweringPlan; readonly folder: string }
  | { readonly kind: 'rebuild'; readonly plan: RebuildPlan }
  | { readonly kind: 'decode'; readonly step: DecodeStep }
  | {
      readonly kind: 'measure';
      readonly feeds: readonly Tensors[];
      readonly options: Omit<MeasureOptions, 'signal'>;
    }
  | { readonly kind: 'stop' }
  | { readonly kind: 'memory' }
  | { readonly kind: 'close' };

export interface Answers {
  readonly load: {
    readonly inputs: readonly SessionInput[];
    readonly outputs: readonly SessionInput[];
    readonly adapters: readonly string[];
    readonly loadMs: number;
  };
  readonly run: Tensors;
  readonly lower: null;
  readonly rebuild: null;
  readonly decode: DecodeAnswer;
  readonly measure: { readonly latency: Uint8Array; readonly firstMs: number | null; readonly seconds: number };
  readonly stop: null;
  readonly memory: Memory;
  readonly close: null;
}

export type Reply =
  | { readonly kind: 'ready' }
  | { readonly kind: 'done'; readonly value: Answers[keyof Answers] }
  | {
      readonly kind: 'failed';
      /** Of whichever package threw; a child's other errors are the model's. */
      readonly code: RuntimeErrorCode;
      readonly message: string;
      readonly where: string | undefined;
      readonly hint: string | undefined;
    };

/** What the child's guard writes to stderr before it ends the child. */
export const MEMORY_MARK = 'flotilla-guard: memory';
