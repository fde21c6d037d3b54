import { type GoldenCase, type PublicKey, readGolden } from '@flotilla/pack';
import {
  benchText,
  type Board,
  type LatencyRecorder,
  loadBoard,
  openRuntime,
  rebuildModel,
  type Runtime,
  RuntimeError,
} from '@flotilla/runtime';
import { readFile } from 'node:fs/promises';
import { totalmem } from 'node:os';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import type { Engine, LoadedModel, Measured } from './ports.ts';
import { AgentError } from './errors.ts';
import { Refusal, refusalOf } from './refusal.ts';

export interface RuntimeEngineOptions {
  /** A board's name or file; `host`: this machine. */
  readonly board: string;
  readonly threads?: number | undefined;
  readonly memoryCapBytes?: number | undefined;
  /** For lowering, loading and each run. Default: the runtime's. */
  readonly modelTimeoutMs?: number | undefined;
  /** Its keys may become more while the agent runs. */
  readonly keyring: { readonly packKeys: readonly PublicKey[] };
}

/** Tokens of one answer while a text model is measured. */
const MEASURED_TOKENS = 16;

/**
 * Loads packs with @flotilla/runtime: lowered once per slot, each model in a child process under a watchdog.
 * @throws {BoardError} for a board that nobody knows
 */
export async function runtimeEngine(options: RuntimeEngineOptions): Promise<Engine> {
  const board = await loadBoard(options.board);
  const memoryCapBytes = memoryCapOf(board, options);
  return {
    version: await onnxRuntimeVersion(),
    board: board.name,
    boardClass: board.boardClass,
    async load(folder, { signal }) {
      const runtime = await open(folder, board, options, signal);
      try {
        const { golden } = runtime.pack.config;
        const cases = golden === null ? [] : readGolden(await runtime.pack.file(golden.path));
        return loaded(runtime, cases);
      } catch (error) {
        await runtime.close();
        throw refusalOf(error, 'pack-invalid');
      }
    },
    rebuild: (plan, { signal, timeoutMs }) => rebuildModel(plan, { memoryCapBytes, signal, loadTimeoutMs: timeoutMs }),
  };
}

async function open(
  folder: string,
  board: Board,
  options: RuntimeEngineOptions,
  signal: AbortSignal,
): Promise<Runtime> {
  const { threads, modelTimeoutMs, keyring } = options;
  try {
    return await openRuntime(join(folder, 'pack'), {
      board,
      threads,
      memoryCapBytes: memoryCapOf(board, options),
      timeoutMs: modelTimeoutMs,
      loadTimeoutMs: modelTimeoutMs,
      trusted: keyring.packKeys,
      signal,
      isolate: true,
      cacheDir: join(folder, 'lowered'),
    });
  } catch (error) {
    throw refusalOf(error, 'load');
  }
}

/** A model that leaks must end before it takes the agent, or the device, with it. */
function memoryCapOf({ ramBytes }: Board, { memoryCapBytes }: RuntimeEngineOptions): number {
  return memoryCapBytes ?? Math.floor(Math.min(ramBytes, totalmem()) * 0.9);
}

function loaded(runtime: Runtime, cases: readonly GoldenCase[]): LoadedModel {
  const { pack, board } = runtime;
  const { latencyBudgetUs: budgets, task } = pack.config;
  const own = Object.hasOwn(budgets, board.name) ? budgets[board.name] : undefined;
  return {
    digest: pack.digest,
    task,
    budgetUs: own ?? (Object.hasOwn(budgets, '*') ? budgets['*'] : undefined),
    golden: (signal) =>
      attempt(runtime, signal, async () => {
        const { ok, worst } = await runtime.golden();
        if (!ok) throw new Refusal('golden-mismatch', describe(worst));
      }),
    measure: (ms, signal) =>
      attempt(runtime, signal, () =>
        task === 'text' ? measureText(runtime, cases, ms, signal) : measureTensors(runtime, cases, ms, signal),
      ),
    generate: ({ prompt, maxTokens, temperature, seed, schema, adapter = null }, signal) =>
      attempt(runtime, signal, async () => {
        const options = { maxTokens, temperature, seed, schema: schema && parseSchema(schema), adapter, signal };
        const made = await runtime.text().generate(prompt, options).catch(blameRequest);
        return {
          text: made.text,
          tokens: made.tokens,
          timeToFirstTokenUs: Math.round(made.timeToFirstTokenMs * 1000),
          tokensPerSecond: made.tokensPerSecond ?? 0,
        };
      }),
    close: () => runtime.close(),
  };
}

/** What the caller asked for is no fault of the model's. */
const OF_THE_REQUEST = new Set([
  'runtime/context',
  'runtime/options',
  'runtime/schema',
  'runtime/input',
  'runtime/adapter',
]);

/** @throws {AgentError} `agent/request`, or the error as it is */
function blameRequest(error: unknown): never {
  if (error instanceof RuntimeError && OF_THE_REQUEST.has(error.code))
    throw new AgentError('agent/request', `${error.code}: ${error.message}`, { cause: error });
  throw error;
}

/** @throws {AgentError} `agent/request` */
function parseSchema(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new AgentError('agent/request', 'the schema is not JSON');
  }
}

/** What is aborted takes its process with it: native code cannot be interrupted. */
async function attempt<T>(runtime: Runtime, signal: AbortSignal, act: () => Promise<T>): Promise<T> {
  signal.throwIfAborted();
  const end = (): void => void runtime.close();
  signal.addEventListener('abort', end, { once: true });
  try {
    return await act();
  } catch (error) {
    throw error instanceof AgentError ? error : refusalOf(error, 'load');
  } finally {
    signal.removeEventListener('abort', end);
  }
}

async function measureTensors(
  runtime: Runtime,
  cases: readonly GoldenCase[],
  ms: number,
  signal: AbortSignal,
): Promise<Measured> {
  const feeds = cases.map(({ inputs }) => inputs);
  if (feeds.length === 0) throw new Refusal('pack-invalid', 'the pack holds no golden inputs to measure with');
  const { latency, seconds } = await runtime.session.measure(feeds, { seconds: ms / 1000, signal });
  return figures(runtime, latency, seconds);
}

/** A run is a token here, of greedy answers to the golden prompts; the first of each, which reads the prompt, is left out. */
async function measureText(
  runtime: Runtime,
  cases: readonly GoldenCase[],
  ms: number,
  signal: AbortSignal,
): Promise<Measured> {
  const prompts = cases.map(({ name }) => name);
  if (prompts.length === 0) throw new Refusal('pack-invalid', 'the pack holds no golden prompts to measure with');
  const options = { prompts, seconds: ms / 1000, maxTokens: MEASURED_TOKENS, signal };
  const { token, firstToken, tokensPerSecond, seconds } = await benchText(runtime.text(), options);
  const timeToFirstTokenUs = Math.round(firstToken.summary().p50Us ?? 0);
  return { ...(await figures(runtime, token, seconds)), timeToFirstTokenUs, tokensPerSecond };
}

async function figures(runtime: Runtime, latency: LatencyRecorder, seconds: number): Promise<Measured> {
  const { peakRssBytes, pssBytes, weightsBytes } = await runtime.session.memory();
  const { p50Us, count } = latency.summary();
  if (p50Us === null) throw new Refusal('hung', 'not one run came to its end in the time of the measurement');
  return {
    p50Us,
    histogram: latency.encode(),
    throughputPerS: seconds > 0 ? count / seconds : 0,
    peakRssBytes,
    pssBytes: pssBytes ?? 0,
    weightsBytes,
    windowMs: Math.round(seconds * 1000),
  };
}

function describe(worst: Awaited<ReturnType<Runtime['golden']>>['worst']): string {
  if (worst === null) return 'the pack holds no golden case';
  const { case: name, output, error, allowed } = worst;
  return `case "${name.slice(0, 80)}", output ${output}: off by ${error.toPrecision(3)}, allowed ${allowed.toPrecision(3)}`;
}

/** As the runtime room has it; told to the controller, nothing more. */
async function onnxRuntimeVersion(): Promise<string> {
  try {
    const near = createRequire(import.meta.resolve('@flotilla/runtime'));
    const entry = dirname(near.resolve('onnxruntime-node'));
    const { version } = JSON.parse(await readFile(join(entry, '..', 'package.json'), 'utf8')) as { version?: unknown };
    return typeof version === 'string' ? version : 'unknown';
  } catch {
    return 'unknown';
  }
}
