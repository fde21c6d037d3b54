import type { DecodeAnswer, DecodeStep } from './decoder.ts';
import type { LatencyRecorder } from './latency.ts';

/** A tensor on the way into or out of a session. `int4`-typed I/O does not occur. */
export type TensorValue =
  | { readonly dtype: 'float32'; readonly dims: readonly number[]; readonly data: Float32Array }
  | { readonly dtype: 'float64'; readonly dims: readonly number[]; readonly data: Float64Array }
  | { readonly dtype: 'float16' | 'uint16'; readonly dims: readonly number[]; readonly data: Uint16Array }
  | { readonly dtype: 'int8'; readonly dims: readonly number[]; readonly data: Int8Array }
  | { readonly dtype: 'uint8' | 'bool'; readonly dims: readonly number[]; readonly data: Uint8Array }
  | { readonly dtype: 'int16'; readonly dims: readonly number[]; readonly data: Int16Array }
  | { readonly dtype: 'int32'; readonly dims: readonly number[]; readonly data: Int32Array }
  | { readonly dtype: 'uint32'; readonly dims: readonly number[]; readonly data: Uint32Array }
  | { readonly dtype: 'int64'; readonly dims: readonly number[]; readonly data: BigInt64Array }
  | { readonly dtype: 'uint64'; readonly dims: readonly number[]; readonly data: BigUint64Array }
  | { readonly dtype: 'string'; readonly dims: readonly number[]; readonly data: readonly string[] };

export type Tensors = { readonly [name: string]: TensorValue };

export interface SessionInput {
  readonly name: string;
  readonly dtype: string;
  readonly dims: readonly (number | string)[];
}

export interface SessionOptions {
  /** Threads inside one operator. Default 1. */
  readonly threads?: number | undefined;
  /** ONNX Runtime session config entries (`session.*` and friends), as lowering chose them. */
  readonly config?: { readonly [key: string]: string } | undefined;
  /** Default 'all'. Golden vectors are taken and checked at one level. */
  readonly optimization?: 'disabled' | 'basic' | 'extended' | 'all' | undefined;
  /** Directory-prefixed profile file; see `bench --profile`. */
  readonly profilePrefix?: string | undefined;
  /** Where ONNX Runtime writes the graph that its optimizer made. */
  readonly optimizedPath?: string | undefined;
  /** Adapters beside the model, as a pack has them: the lowered graph has branches for them. */
  readonly adapters?: readonly Uint8Array[] | undefined;
  /** What `memory` is to say of the weights, where it is known; else it reads the model's graph once more. */
  readonly weightsBytes?: number | undefined;
}

/** One loaded model. In this process or in a child of its own: the same interface. */
export interface Session {
  readonly inputs: readonly SessionInput[];
  readonly outputs: readonly SessionInput[];
  /** @throws {RuntimeError} `runtime/input`, `runtime/run`; from a child also `runtime/crashed`, `runtime/timeout`, `runtime/memory` */
  run(feeds: Tensors, options?: RunOptions): Promise<Tensors>;
  close(): Promise<void>;
}

export interface RunOptions {
  /** Outputs to return. Default: all; of a decoder whose caches are written in place, all but these. */
  readonly fetches?: readonly string[] | undefined;
  /** The adapter for this run; null: none. Default: what `use` chose. */
  readonly adapter?: string | null | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface MeasureOptions {
  /** How long to measure. Default 3. */
  readonly seconds?: number | undefined;
  /** Runs before the clock starts. Default 3. */
  readonly warmupRuns?: number | undefined;
  /** As in `RunOptions`. */
  readonly adapter?: string | null | undefined;
  /** Default: no bound. */
  readonly maxRuns?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface Measurement {
  readonly latency: LatencyRecorder;
  /** Of the first run in this session's life, warm-up included; null if it had run before. */
  readonly firstMs: number | null;
  readonly seconds: number;
}

/** A session with what measuring and text generation need beyond `run`. Both kinds of session have it. */
export interface LoadedSession extends Session {
  readonly modelPath: string;
  readonly threads: number;
  /** `processMs`: from the start of the child process to its first message; null in this process. */
  readonly coldStart: { readonly processMs: number | null; readonly loadMs: number };
  /** Adapters that lie beside the model. */
  readonly adapters: readonly string[];
  /** The one in use; null: the base alone. */
  readonly adapter: string | null;
  /** For the runs that follow, which name no other. Nothing is loaded. @throws {RuntimeError} `runtime/adapter` */
  use(adapter: string | null): void;
  run(feeds: Tensors, options?: RunOptions): Promise<Tensors>;
  /**
   * For a language model: reads tokens into a KV cache and chooses the next, where the model lives.
   * @throws {RuntimeError} `runtime/not-text`; as `run`
   */
  decode(step: DecodeStep): Promise<DecodeAnswer>;
  /** Runs the feeds in turn, over and over, where the model lives: no message between processes is in the figures. */
  measure(feeds: readonly Tensors[], options?: MeasureOptions): Promise<Measurement>;
  /** Of the process that holds the model. */
  memory(): Promise<Memory>;
}

/**
 * Latency in microseconds. A percentile that the number of runs cannot support is null
 * (needed: p50 1, p90 64, p95 130, p99 662).
 */
export interface Latency {
  readonly count: number;
  readonly p50Us: number | null;
  readonly p90Us: number | null;
  readonly p95Us: number | null;
  readonly p99Us: number | null;
  readonly maxUs: number;
  readonly meanUs: number;
  /** 95 % confidence interval of the median, by order statistics (no assumption about the distribution); null below 6 runs. */
  readonly ci95Us: readonly [number, number] | null;
}

/** Four figures that must never be called one "memory". Null where the system does not say. */
export interface Memory {
  /** VmHWM of the process that holds the model, its runtime included. */
  readonly peakRssBytes: number;
  /** Proportional set size now: pages shared with other processes count in part. */
  readonly pssBytes: number | null;
  /** What this process alone has written: a mapped file, which the system can drop and read again, is not in it. */
  readonly privateBytes: number | null;
  /** Constants of the model as its graph states them; ONNX Runtime's prepacking may hold a second copy. */
  readonly weightsBytes: number;
}
