import { checkAdapter } from './adapters.ts';
import { Child } from './child.ts';
import type { DecodeAnswer, DecodeStep } from './decoder.ts';
import { RuntimeError } from './errors.ts';
import { LatencyRecorder } from './latency.ts';
import type { Answers, Request } from './messages.ts';
import { checkFeeds } from './tensors.ts';
import type {
  LoadedSession,
  MeasureOptions,
  Measurement,
  Memory,
  RunOptions,
  SessionInput,
  SessionOptions,
  Tensors,
} from './types.ts';

export interface SpawnOptions extends SessionOptions {
  /** For each run. Default 60,000. */
  readonly timeoutMs?: number | undefined;
  /** For starting the process, and again for loading the model. Default 60,000. */
  readonly loadTimeoutMs?: number | undefined;
  /** RSS of the child, checked 50 times a second. Default: none. */
  readonly memoryCapBytes?: number | undefined;
  /** Ends starting and loading. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Loads a model into a child process: this process's event loop is never blocked, and whatever the model does to its
 * process (crash, hang, eat memory) comes back as a typed error. The child dies with its parent.
 * After an error that ended the child the session is of no more use: open another.
 * @throws {RuntimeError} `runtime/load`, `runtime/crashed`, `runtime/timeout`, `runtime/memory`; else the signal's reason
 */
export async function spawnSession(modelPath: string, options: SpawnOptions = {}): Promise<ChildSession> {
  const { timeoutMs = 60_000, loadTimeoutMs = 60_000, memoryCapBytes, signal, ...sessionOptions } = options;
  signal?.throwIfAborted();
  const start = performance.now();
  const child = new Child(memoryCapBytes);
  try {
    await child.started(loadTimeoutMs, signal);
    const processMs = performance.now() - start;
    const loaded = await child.ask({ kind: 'load', modelPath, options: sessionOptions }, loadTimeoutMs, signal);
    return new ChildSession(child, modelPath, options.threads ?? 1, timeoutMs, processMs, loaded);
  } catch (error) {
    child.kill(new RuntimeError('runtime/closed', 'loading failed'));
    await child.ended();
    throw error;
  }
}

export class ChildSession implements LoadedSession {
  readonly inputs: readonly SessionInput[];
  readonly outputs: readonly SessionInput[];
  readonly adapters: readonly string[];
  adapter: string | null = null;
  readonly modelPath: string;
  readonly threads: number;
  readonly coldStart: { readonly processMs: number; readonly loadMs: number };
  private readonly child: Child;
  private readonly timeoutMs: number;
  /** The end of the request that came last: one runs at a time, and its timeout counts from its own start. */
  private queue: Promise<unknown> = Promise.resolve();

  constructor(
    child: Child,
    modelPath: string,
    threads: number,
    timeoutMs: number,
    processMs: number,
    loaded: Answers['load'],
  ) {
    this.child = child;
    this.modelPath = modelPath;
    this.threads = threads;
    this.timeoutMs = timeoutMs;
    this.inputs = loaded.inputs;
    this.outputs = loaded.outputs;
    this.adapters = loaded.adapters;
    this.coldStart = { processMs, loadMs: loaded.loadMs };
  }

  /** Of the child, while it lives. */
  get pid(): number | undefined {
    return this.child.pid;
  }

  /** The name goes along with every request: its factors lie in the child. */
  use(adapter: string | null): void {
    checkAdapter(this.adapters, adapter);
    this.adapter = adapter;
  }

  /** An aborted run ends the child: native code cannot be interrupted. */
  async run(feeds: Tensors, options: RunOptions = {}): Promise<Tensors> {
    checkFeeds(this.inputs, feeds); // also in the child; here so that a wrong one costs no copy
    const { fetches, adapter = this.adapter, signal } = options;
    checkAdapter(this.adapters, adapter);
    return this.ask({ kind: 'run', feeds, fetches, adapter }, this.timeoutMs, signal);
  }

  async decode(step: DecodeStep): Promise<DecodeAnswer> {
    const { adapter = this.adapter } = step;
    return this.ask({ kind: 'decode', step: { ...step, adapter } }, this.timeoutMs);
  }

  async measure(feeds: readonly Tensors[], options: MeasureOptions = {}): Promise<Measurement> {
    const { signal, ...rest } = options;
    signal?.throwIfAborted();
    const stop = () => this.child.tell({ kind: 'stop' });
    signal?.addEventListener('abort', stop, { once: true });
    try {
      const allowedMs = (rest.seconds ?? 3) * 1000 + this.timeoutMs;
      const { adapter = this.adapter } = rest;
      const measured = await this.ask({ kind: 'measure', feeds, options: { ...rest, adapter } }, allowedMs);
      return { ...measured, latency: LatencyRecorder.decode(measured.latency) };
    } catch (error) {
      signal?.throwIfAborted();
      throw error;
    } finally {
      signal?.removeEventListener('abort', stop);
    }
  }

  async memory(): Promise<Memory> {
    return this.ask({ kind: 'memory' }, this.timeoutMs);
  }

  /** Ends the child; what is under way is refused with `runtime/closed`. */
  async close(): Promise<void> {
    this.child.kill(new RuntimeError('runtime/closed', 'the session is closed'));
    await this.child.ended();
  }

  /** Ends the child in order, so that ONNX Runtime writes its profile. */
  async closeGently(): Promise<void> {
    await this.ask({ kind: 'close' }, this.timeoutMs);
    await this.close();
  }

  private ask<R extends Request>(request: R, timeoutMs: number, signal?: AbortSignal): Promise<Answers[R['kind']]> {
    const answer = this.queue.then(() => this.child.ask(request, timeoutMs, signal));
    this.queue = answer.catch(() => {});
    return answer;
  }
}
