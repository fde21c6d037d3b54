import { stat } from 'node:fs/promises';
import { IN_PLACE, MEMORY } from '@flotilla/lowering';
import type { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-node';
import { type DecodeAnswer, Decoder, type DecodeStep } from './decoder.ts';
import { stepOutputs, writesInPlace } from './decoder-io.ts';
import { engineWords } from './engine-words.ts';
import { RuntimeError } from './errors.ts';
import { processMemory } from './process-memory.ts';
import { checkAdapter, factorFeeds, isBranchInput } from './adapters.ts';
import { checkFeeds, fromOrt, type OrtTensorClass, toOrt } from './tensors.ts';
import type {
  LoadedSession,
  MeasureOptions,
  Measurement,
  Memory,
  RunOptions,
  SessionInput,
  SessionOptions,
  Tensors,
  TensorValue,
} from './types.ts';
import { weightsBytes } from './weights-bytes.ts';

/**
 * Loads a model into this process. A run blocks the event loop for as long as it takes, and a crash in native code
 * ends the process: for foreign models, and wherever something else must go on, use `spawnSession`.
 * @throws {RuntimeError} `runtime/load`
 */
export async function openSession(modelPath: string, options: SessionOptions = {}): Promise<LocalSession> {
  await stat(modelPath).catch((cause: NodeJS.ErrnoException) => {
    throw new RuntimeError('runtime/load', `${modelPath}: ${cause.code}`, { where: modelPath, cause });
  });
  // Not at the top: an idle agent must not hold ONNX Runtime's 52 MB.
  const ort = await import('onnxruntime-node');
  const start = performance.now();
  const session = await ort.InferenceSession.create(modelPath, ortOptions(options)).catch((cause: unknown) => {
    throw new RuntimeError('runtime/load', `${modelPath}: ${engineWords(cause)}`, { where: modelPath, cause });
  });
  return new LocalSession(session, ort.Tensor, modelPath, options, performance.now() - start);
}

/** What the binding says of an output that it cannot copy, after a run that went well. */
const NOT_COPIED = 'Non tensor type';

/** @param step the inputs that are others each time */
export type InPlaceRun = (step: Tensors, adapter?: string | null) => Promise<void>;

type OrtTensors = { readonly [name: string]: OrtTensor };

export class LocalSession implements LoadedSession {
  readonly inputs: readonly SessionInput[];
  readonly outputs: readonly SessionInput[];
  readonly adapters: readonly string[];
  adapter: string | null = null;
  readonly modelPath: string;
  readonly threads: number;
  readonly coldStart: { readonly processMs: null; readonly loadMs: number };
  /** ONNX Runtime's own session, to compare with. */
  readonly bare: InferenceSession;
  /** What `run` returns unless it is told; undefined: everything. */
  readonly fetches: readonly string[] | undefined;
  private readonly Tensor: OrtTensorClass;
  /** What an adapter's branches are fed: made once, so that switching makes nothing. */
  private readonly factors: ReadonlyMap<string | null, OrtTensors>;
  private decoder: Decoder | undefined;
  private weightsBytes: number | undefined;
  private ran = false;
  private closed = false;

  constructor(
    session: InferenceSession,
    Tensor: OrtTensorClass,
    modelPath: string,
    options: SessionOptions,
    loadMs: number,
  ) {
    this.bare = session;
    this.Tensor = Tensor;
    this.modelPath = modelPath;
    this.threads = options.threads ?? 1;
    this.weightsBytes = options.weightsBytes;
    this.coldStart = { processMs: null, loadMs };
    const inputs = session.inputMetadata.map(inputOf);
    this.inputs = inputs.filter((input) => !isBranchInput(input));
    const factors = factorFeeds(inputs.filter(isBranchInput), options.adapters ?? []);
    this.factors = new Map(
      [...factors].flatMap(([name, feeds]) => (Object.keys(feeds).length === 0 ? [] : [[name, this.ortFeeds(feeds)]])),
    );
    this.adapters = [...factors.keys()].filter((name) => name !== null);
    this.outputs = session.outputMetadata.map(inputOf);
    this.fetches = writesInPlace(this) ? stepOutputs(this) : undefined;
  }

  use(adapter: string | null): void {
    checkAdapter(this.adapters, adapter);
    this.adapter = adapter;
  }

  async run(feeds: Tensors, options: RunOptions = {}): Promise<Tensors> {
    if (this.closed) throw new RuntimeError('runtime/closed', 'the session is closed');
    options.signal?.throwIfAborted();
    checkFeeds(this.inputs, feeds);
    const { adapter = this.adapter } = options;
    checkAdapter(this.adapters, adapter);
    const all = this.ortFeeds(feeds);
    const factors = this.factors.get(adapter);
    const fetches = fetchList(options, this.outputs) ?? this.fetches;
    // Copying an object of many inputs shows in a model that runs in half a millisecond.
    const results = await this.runOrt(factors ? { ...all, ...factors } : all, fetches);
    options.signal?.throwIfAborted();
    return tensorsOf(results, fetches);
  }

  /**
   * Runs of a model whose caches are written where they are fed: the outputs come into the tensors given, by name. What
   * stays the same from run to run is made ready once: it shows in a model that takes half a millisecond.
   * @param fixed inputs that stay; like all here of the model's shapes and types: nothing is checked
   */
  prepareInPlace(fixed: Tensors, into: Tensors): InPlaceRun {
    const feeds = this.ortFeeds(fixed);
    const fetches = { [IN_PLACE]: null, ...this.ortFeeds(into) };
    return async (step, adapter = this.adapter) => {
      if (this.closed) throw new RuntimeError('runtime/closed', 'the session is closed');
      checkAdapter(this.adapters, adapter);
      Object.assign(feeds, this.ortFeeds(step), this.factors.get(adapter));
      this.ran = true;
      try {
        await this.bare.run(feeds, fetches);
      } catch (cause) {
        if (!(cause instanceof Error && cause.message.startsWith(NOT_COPIED))) throw this.failed(cause);
      }
    };
  }

  private ortFeeds(feeds: Tensors): { [name: string]: OrtTensor } {
    const all: { [name: string]: OrtTensor } = {};
    for (const name of Object.keys(feeds)) all[name] = toOrt(this.Tensor, feeds[name] as TensorValue);
    return all;
  }

  private async runOrt(
    feeds: OrtTensors,
    fetches: readonly string[] | undefined,
  ): Promise<InferenceSession.OnnxValueMapType> {
    try {
      this.ran = true;
      return fetches ? await this.bare.run(feeds, fetches) : await this.bare.run(feeds);
    } catch (cause) {
      throw this.failed(cause);
    }
  }

  private failed(cause: unknown): RuntimeError {
    const foreign = this.bare.outputMetadata.filter(({ isTensor }) => !isTensor).map(({ name }) => name);
    if (cause instanceof Error && cause.message.startsWith(NOT_COPIED) && foreign.length > 0)
      return new RuntimeError('runtime/run', `no tensor, and cannot be read: output ${foreign.join(', ')}`, {
        where: this.modelPath,
        hint: 'export without it, or remove it from the outputs; from scikit-learn: options={"zipmap": False}',
        cause,
      });
    return new RuntimeError('runtime/run', engineWords(cause), { where: this.modelPath, cause });
  }

  async decode(step: DecodeStep): Promise<DecodeAnswer> {
    this.decoder ??= new Decoder(this);
    return this.decoder.step(step);
  }

  /** What the next `decode` most likely asks for, done now; see `Decoder.readAhead`. */
  async readAhead(): Promise<void> {
    await this.decoder?.readAhead();
  }

  async measure(feeds: readonly Tensors[], options: MeasureOptions = {}): Promise<Measurement> {
    if (feeds.length === 0) throw new RuntimeError('runtime/input', 'nothing to feed');
    const { seconds = 3, warmupRuns = 3, maxRuns = Number.POSITIVE_INFINITY, adapter, signal } = options;
    const { LatencyRecorder } = await import('./latency.ts'); // a session that is not measured needs no histograms
    const latency = new LatencyRecorder();
    const firstMs = this.ran ? null : await this.timeOnce(feeds[0] as Tensors, adapter);
    for (let i = 0; i < warmupRuns; i++) {
      signal?.throwIfAborted();
      await this.run(feeds[i % feeds.length] as Tensors, { adapter });
    }
    const start = performance.now();
    let now = start;
    for (let i = 0; i < maxRuns && now - start < seconds * 1000; i++) {
      signal?.throwIfAborted();
      await this.run(feeds[i % feeds.length] as Tensors, { adapter });
      const end = performance.now();
      latency.record((end - now) * 1000);
      now = end;
    }
    return { latency, firstMs, seconds: (now - start) / 1000 };
  }

  private async timeOnce(feeds: Tensors, adapter: string | null | undefined): Promise<number> {
    const start = performance.now();
    await this.run(feeds, { adapter });
    return performance.now() - start;
  }

  async memory(): Promise<Memory> {
    const memory = await processMemory(); // first: reading the graph takes some
    this.weightsBytes ??= await weightsBytes(this.modelPath);
    return { ...memory, weightsBytes: this.weightsBytes };
  }

  /** Ends profiling (if it was on: see `profilePrefix`) and frees the model. */
  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    this.decoder = undefined;
    this.bare.endProfiling();
    await this.bare.release();
  }
}

function tensorsOf(results: InferenceSession.OnnxValueMapType, fetches: readonly string[] | undefined): Tensors {
  const outputs: { [name: string]: TensorValue } = {};
  for (const name of fetches ?? Object.keys(results)) outputs[name] = fromOrt(results[name] as OrtTensor);
  return outputs;
}

function fetchList({ fetches }: RunOptions, outputs: readonly SessionInput[]): readonly string[] | undefined {
  if (!fetches) return undefined;
  const names = new Set(fetches);
  for (const name of names)
    if (!outputs.some((output) => output.name === name))
      throw new RuntimeError('runtime/input', `${JSON.stringify(name)} is not an output of the model`, { where: name });
  return [...names];
}

function inputOf(meta: InferenceSession.ValueMetadata): SessionInput {
  return meta.isTensor
    ? { name: meta.name, dtype: meta.type, dims: meta.shape }
    : { name: meta.name, dtype: 'not-a-tensor', dims: [] };
}

function ortOptions(options: SessionOptions): InferenceSession.SessionOptions {
  const { [MEMORY]: memory, ...config } = options.config ?? {};
  const keeps = memory === undefined;
  return {
    executionProviders: ['cpu'],
    intraOpNumThreads: options.threads ?? 1,
    interOpNumThreads: 1,
    executionMode: 'sequential',
    graphOptimizationLevel: options.optimization ?? 'all',
    logSeverityLevel: 4, // what fails is thrown, message and all
    enableMemPattern: keeps,
    enableCpuMemArena: keeps,
    extra: nested(config),
    ...(options.optimizedPath === undefined ? {} : { optimizedModelFilePath: options.optimizedPath }),
    ...(options.profilePrefix === undefined ? {} : { enableProfiling: true, profileFilePrefix: options.profilePrefix }),
  };
}

/** `session.x` → `{ session: { x } }`: a flat key, or `mlas.*` under `session`, is ignored without a word. */
function nested(config: { readonly [key: string]: string }): { [group: string]: { [key: string]: string } } {
  const groups: { [group: string]: { [key: string]: string } } = {};
  for (const [key, value] of Object.entries(config)) {
    const dot = key.indexOf('.');
    const group = key.slice(0, dot);
    (groups[group] ??= {})[key.slice(dot + 1)] = value;
  }
  return groups;
}
