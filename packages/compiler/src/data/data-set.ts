import type { Tensors } from '@flotilla/runtime';

/** One sample for a model of tensors. */
export interface Sample {
  /** File or line: what an error names. */
  readonly name: string;
  readonly inputs: Tensors;
  /** Arrays named `label…`, or what a module gives; a metric knows what it means. */
  readonly label?: unknown;
}

/** One text for a language model. */
export interface TextSample {
  readonly name: string;
  /** The whole text, or the prompt that the model is to go on from. */
  readonly text: string;
  /** What a right answer is. */
  readonly completion: string | undefined;
}

/** Samples on disk, read one at a time and from the first one at each call. */
export type DataSet =
  | {
      readonly kind: 'tensor';
      readonly path: string;
      /** Undefined where only reading tells. */
      readonly length: number | undefined;
      samples(): AsyncIterable<Sample>;
    }
  | {
      readonly kind: 'text';
      readonly path: string;
      readonly length: number;
      texts(): AsyncIterable<TextSample>;
    };

/** What a model says of an input: enough to check a sample against. */
export interface DataInput {
  readonly name: string;
  readonly dtype: string;
  readonly dims: readonly (number | string)[];
}
