/** What a file in a pack is for. Unknown roles are kept and never run. */
export type Role =
  | 'model' // portable quantized graph, ONNX; exactly one
  | 'model-data' // its external data
  | 'adapter' // low-rank factors beside the model, see adapter.ts
  | 'rebuild' // factors of which, with the base's model, a device makes this one; see adapter.ts
  | 'golden' // golden vectors: `.safetensors`-like tensor container, see golden.ts
  | 'report' // accuracy and latency report, JSON
  | 'tokenizer' // tokenizer.json and friends
  | 'keys' // class labels or character keys, one a line
  | 'config' // config.json, generation_config.json
  | 'doc'; // README, LICENSE

export interface PackFile {
  /** Relative POSIX path, `[A-Za-z0-9._-]+` segments, no `..`. */
  readonly path: string;
  readonly role: Role | (string & {});
  readonly digest: string; // sha256:<64 lower-case hex>
  readonly bytes: number;
}

/** How close a device's outputs must come to the golden ones: |out − expected| ≤ atol + rtol·max|expected|, per output tensor. */
export interface Tolerance {
  readonly atol: number;
  readonly rtol: number;
}

/** The pack's config blob. Canonical JSON; its digest, with the manifest derived from it, names the pack. */
export interface PackConfig {
  readonly format: 'flotilla-pack/1';
  readonly name: string;
  /** 'tensor': run(tensors); 'text': causal language model with KV cache. */
  readonly task: 'tensor' | 'text';
  /** Sorted by path. */
  readonly files: readonly PackFile[];
  readonly weights: string; // 'int8', 'int4', …
  readonly parameters: number;
  readonly sourceBytes: number; // the fp32 model file
  /** Tolerances by board class; a device of a class not listed refuses. */
  readonly golden: { readonly path: string; readonly tolerance: { readonly [boardClass: string]: Tolerance } } | null;
  /** Upper bound on the p50 of a run on golden inputs, in microseconds, by board name; '*' for any other board. */
  readonly latencyBudgetUs: { readonly [board: string]: number };
  /** Free-form facts that readers show and never act on. */
  readonly annotations: { readonly [key: string]: string };
}

/** A file on its way into a pack: a path on disk, or its bytes. */
export interface SourceFile {
  readonly path: string;
  readonly role: Role | (string & {});
  readonly source: string | Uint8Array;
}

/** What `createPack` needs: the config without what it works out itself. */
export type PackContents = Omit<PackConfig, 'format' | 'files'> & { readonly files: readonly SourceFile[] };

/** One content-addressed file of a pack as it travels. */
export interface Blob {
  readonly digest: string;
  readonly bytes: number;
}
