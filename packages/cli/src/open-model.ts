import { CliError } from './errors.ts';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { loadBoard } from '@flotilla/boards';
import { openModelFolder } from '@flotilla/checkpoint';
import { readGolden, readPublicKey } from '@flotilla/pack';
import {
  decoderFeeds,
  type LoadedSession,
  loadTokenizer,
  openRuntime,
  readNpz,
  type SessionOptions,
  spawnSession,
  syntheticFeeds,
  TextModel,
  type Tensors,
} from '@flotilla/runtime';

/** Tokens in the cache when a language model's step is timed. */
const PAST_TOKENS = 64;

/** A bare model, alone or in a folder with its tokenizer, or a pack, loaded in a process of its own for measuring and running. */
export interface OpenModel {
  readonly board: string;
  readonly session: LoadedSession;
  readonly sessionOptions: SessionOptions;
  /** @throws {RuntimeError} `runtime/not-text` for what is no language model; {CliError} `cli/usage` without its tokenizer */
  text(): TextModel;
  /** Inputs to measure with: the pack's golden ones, else made up. */
  ownFeeds(): Promise<readonly Tensors[]>;
  /** A language model's golden prompts; undefined for what writes no text. */
  ownPrompts(): Promise<readonly string[] | undefined>;
  close(): Promise<void>;
}

export interface OpenModelOptions {
  readonly board: string;
  readonly threads: number;
  readonly trust?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

export async function openModelOrPack(path: string, options: OpenModelOptions): Promise<OpenModel> {
  return (await isPack(path)) ? openPacked(path, options) : openBare(path, options);
}

/** A pack is a tar by its name, or a folder with an OCI layout. Whether it is a good one is the pack's own to say. */
export async function isPack(path: string): Promise<boolean> {
  if ((await stat(path)).isDirectory())
    return stat(join(path, 'oci-layout')).then(
      () => true,
      () => false,
    );
  return !path.endsWith('.onnx');
}

/** Inputs from a file, or the model's own. */
export async function feedsOf(model: OpenModel, input: string | undefined): Promise<readonly Tensors[]> {
  return input === undefined ? model.ownFeeds() : [await readFeeds(input)];
}

/** Inputs from `.npz`; its `label*` arrays belong to a metric and are left out. */
export async function readFeeds(path: string): Promise<Tensors> {
  const arrays = Object.entries(await readNpz(path));
  return Object.fromEntries(arrays.filter(([name]) => !name.startsWith('label')));
}

async function openPacked(path: string, { board, threads, trust, signal }: OpenModelOptions): Promise<OpenModel> {
  const trusted = trust === undefined ? undefined : [await readPublicKey(trust)];
  const runtime = await openRuntime(path, { board, threads, trusted, signal });
  const { pack, session, sessionOptions } = runtime;
  return {
    board: runtime.board.name,
    session,
    sessionOptions,
    text: () => runtime.text(),
    async ownFeeds() {
      const { golden, task } = pack.config;
      if (task === 'text') return [decoderFeeds(session.inputs, [1], PAST_TOKENS)];
      if (golden === null) return [syntheticFeeds(session.inputs)];
      return readGolden(await pack.file(golden.path)).map(({ inputs }) => inputs);
    },
    async ownPrompts() {
      const { golden, task } = pack.config;
      if (task !== 'text') return undefined;
      return golden === null ? [] : readGolden(await pack.file(golden.path)).map(({ name }) => name);
    },
    close: () => runtime.close(),
  };
}

async function openBare(path: string, { board, threads, signal }: OpenModelOptions): Promise<OpenModel> {
  const { name } = await loadBoard(board);
  const { onnxPath, files, isText } = await openModelFolder(path);
  const companions = isText ? files : [];
  const contents = await Promise.all(companions.map(async (file) => [file.path, await readFile(file.source)] as const));
  const sessionOptions = { threads };
  const session = await spawnSession(onnxPath, { ...sessionOptions, signal });
  return {
    board: name,
    session,
    sessionOptions,
    text() {
      if (isText) return new TextModel(session, loadTokenizer(new Map(contents)));
      throw new CliError('cli/usage', `${path} is a bare model: text needs its tokenizer.json and config.json`, {
        hint: 'give a pack, or a folder that holds them',
      });
    },
    ownFeeds: async () => [isText ? decoderFeeds(session.inputs, [1], PAST_TOKENS) : syntheticFeeds(session.inputs)],
    ownPrompts: async () => undefined,
    close: () => session.close(),
  };
}
