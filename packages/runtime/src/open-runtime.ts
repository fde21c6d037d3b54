import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Board, loadBoard } from '@flotilla/boards';
import type { Choice } from '@flotilla/lowering';
import { openPack, type Pack, type PublicKey } from '@flotilla/pack';
import { branchesOf, packAdapters } from './adapters.ts';
import { askApart } from './ask-apart.ts';
import { RuntimeError } from './errors.ts';
import { checkGolden, type GoldenReport } from './golden.ts';
import { openSession } from './local-session.ts';
import { type LoweringPlan, lowerFile } from './lower-file.ts';
import { loweredModel } from './lowered-cache.ts';
import { spawnSession } from './spawn-session.ts';
import { TextModel } from './text-model.ts';
import { loadTokenizer } from './tokenizer.ts';
import type { LoadedSession, RunOptions, SessionOptions, Tensors } from './types.ts';

export interface RuntimeOptions {
  /** The board to lower for and whose tolerances count: a name, a file, `host`, or a board. Default `host`. */
  readonly board?: string | Board | undefined;
  /** Default 1. */
  readonly threads?: number | undefined;
  /** Default true: lowering and the model live in child processes. False: in this one. */
  readonly isolate?: boolean | undefined;
  /** Where lowered models stay. Default: a temporary folder, until `close`. */
  readonly cacheDir?: string | undefined;
  /** Keys of which one must have signed the pack. Default: any pack. */
  readonly trusted?: readonly PublicKey[] | undefined;
  /** For children: see `spawnSession`. */
  readonly timeoutMs?: number | undefined;
  /** Also for lowering. */
  readonly loadTimeoutMs?: number | undefined;
  readonly memoryCapBytes?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A pack, lowered for a board and loaded. */
export interface Runtime {
  readonly pack: Pack;
  readonly board: Board;
  /** Which kernel each node runs as, and why. */
  readonly choices: readonly Choice[];
  /** How the lowered model is loaded: what `bench` needs to profile it in a process of its own. */
  readonly sessionOptions: SessionOptions;
  readonly session: LoadedSession;
  run(feeds: Tensors, options?: RunOptions): Promise<Tensors>;
  /** @throws {RuntimeError} `runtime/not-text` for a pack of another task */
  text(): TextModel;
  /** Runs the pack's golden vectors. @throws {RuntimeError} `runtime/pack` where it has none, or none for this class */
  golden(): Promise<GoldenReport>;
  close(): Promise<void>;
}

/**
 * Opens a pack, verifies every byte of it, lowers its model for the board (or takes it from the cache) and loads it.
 * @param source a path, or a pack that is open: it is then the caller's to close
 * @throws {PackError}, {BoardError}, {RuntimeError} `runtime/load`, `runtime/cache`, `runtime/pack`,
 *   `runtime/tokenizer`, `runtime/not-text`; from children also `runtime/crashed`, `runtime/timeout`, `runtime/memory`
 */
export async function openRuntime(source: string | Pack, options: RuntimeOptions = {}): Promise<Runtime> {
  const closers: (() => Promise<void>)[] = [];
  const close = async () => {
    for (const closer of closers.splice(0).toReversed()) await closer();
  };
  try {
    const { signal } = options;
    const board = typeof options.board === 'object' ? options.board : await loadBoard(options.board ?? 'host');
    const pack = typeof source === 'string' ? await openPack(source, { trusted: options.trusted, signal }) : source;
    if (pack !== source) closers.push(() => pack.close());
    const cacheDir = options.cacheDir ?? (await mkdtemp(join(tmpdir(), 'flotilla-lowered-')));
    if (options.cacheDir === undefined) closers.push(() => rm(cacheDir, { recursive: true, force: true }));
    const adapters = await packAdapters(pack);
    const branches = branchesOf(adapters);
    const lower = (modelPath: string, folder: string) => lowerApart({ modelPath, board, branches }, folder, options);
    const { path, session: config, choices, weightsBytes } = await loweredModel(pack, board, cacheDir, lower);
    const sessionOptions = { threads: options.threads ?? 1, config, weightsBytes, adapters };
    const session = await load(path, sessionOptions, options);
    closers.push(() => session.close());
    const text = pack.config.task === 'text' ? await openText(pack, session) : undefined;
    return {
      pack,
      board,
      choices,
      sessionOptions,
      session,
      run: (feeds, runOptions) => session.run(feeds, runOptions),
      text() {
        if (text) return text;
        throw new RuntimeError('runtime/not-text', `${pack.path} is a pack for the task ${pack.config.task}`);
      },
      golden: () => checkGolden(pack, board, session, text),
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

function load(path: string, session: SessionOptions, options: RuntimeOptions): Promise<LoadedSession> {
  if (options.isolate === false) return openSession(path, session);
  const { timeoutMs, loadTimeoutMs, memoryCapBytes, signal } = options;
  return spawnSession(path, { ...session, timeoutMs, loadTimeoutMs, memoryCapBytes, signal });
}

async function lowerApart(plan: LoweringPlan, folder: string, options: RuntimeOptions): Promise<void> {
  if (options.isolate === false) await lowerFile(plan, folder);
  else await askApart({ kind: 'lower', plan, folder }, options);
}

async function openText(pack: Pack, session: LoadedSession): Promise<TextModel> {
  const files = new Map<string, Uint8Array>();
  for (const { path, role } of pack.config.files)
    if (role === 'tokenizer' || role === 'config') files.set(path, await pack.file(path));
  return new TextModel(session, loadTokenizer(files));
}
