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
}

/** One loaded model. In this process or in a child of its own: the same interface. */
export interface Session {
  readonly inputs: readonly SessionInput[];
  readonly outputs: readonly SessionInput[];
  /** @throws {RuntimeError} `runtime/input`, `runtime/run`; from a child also `runtime/crashed`, `runtime/timeout`, `runtime/memory` */
  run(
    feeds: Tensors,
    options?: { readonly fetches?: readonly string[] | undefined; readonly signal?: AbortSignal | undefined },
  ): Promise<Tensors>;
  close(): Promise<void>;
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
  readonly ci95Us: readonly [number, number] | null;
}

/** Three figures that must never be called one "memory". Null where the system does not say. */
export interface Memory {
  readonly peakRssBytes: number;
  readonly pssBytes: number | null;
  readonly weightsBytes: number;
}
