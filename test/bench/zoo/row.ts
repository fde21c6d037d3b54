import type { ZooSizes } from './task.ts';

/** How many judging samples; fp32's score and this one's; what is kept of fp32's. */
export interface Score {
  readonly samples: number;
  readonly fp32: number;
  readonly score: number;
  readonly kept: number;
  readonly sqnrDb: number | null;
}

/** A quantized model that somebody made, and what making it took. */
export interface Made {
  /** 'flotilla', or the peer. */
  readonly by: string;
  readonly recipe: string;
  readonly file: string;
  /** Of the compilation alone. */
  readonly seconds: number;
  /** Of its process. */
  readonly peakRssBytes: number;
}

/** What one model became by one recipe or one peer's tool. */
export interface Row extends Made, Score {
  readonly model: string;
  readonly metric: string;
  /** Weights and graph. */
  readonly bytes: number;
  readonly ratio: number;
  /** Null where a peer does not say. */
  readonly nodes: { readonly quantized: number; readonly float: number } | null;
  readonly warnings: readonly string[];
}

/** Beside the source, in turns. */
export interface Speed {
  readonly threads: number;
  readonly speedup: number;
  readonly interval: readonly [number, number];
  readonly p50Us: number;
}

/** The model as it came. */
export interface Source {
  /** Where its calibration samples lie, for us. */
  readonly data: string;
  /** The same as a folder of arrays, for peers, who read no text. */
  readonly arrays: string;
  readonly bytes: number;
}

/** A line of the table; one that failed says why. */
export interface Line {
  readonly model: string;
  readonly by: string;
  readonly recipe: string;
  /** Of what it came from. */
  readonly key: string;
  readonly row: Row | null;
  readonly speeds: readonly Speed[];
  readonly failed: string | null;
}

/** What a step is told. */
export interface StepOptions {
  readonly sizes: ZooSizes;
  readonly data?: string | undefined;
  readonly recipe?: string | undefined;
  readonly made?: Made | undefined;
  readonly file?: string | undefined;
}
