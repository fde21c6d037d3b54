import { readFile } from 'node:fs/promises';
import type { ModelFolder } from '@flotilla/checkpoint';
import { loadTokenizer, type SessionOptions, spawnSession, TextModel, type TextTokenizer } from '@flotilla/runtime';
import type { Judged } from './judge.ts';

/** The tokenizer that lies beside a language model; undefined for a model of tensors. */
export async function loadFolderTokenizer(folder: ModelFolder): Promise<TextTokenizer | undefined> {
  if (!folder.isText) return undefined;
  const files = await Promise.all(
    folder.files.map(async ({ path, source }) => [path, await readFile(source)] as const),
  );
  return loadTokenizer(new Map(files));
}

/** Loads an ONNX file into a process of its own. */
export async function loadOnnx(
  path: string,
  tokenizer: TextTokenizer | undefined,
  options: SessionOptions & { readonly signal?: AbortSignal | undefined },
): Promise<Judged> {
  const session = await spawnSession(path, { timeoutMs: 600_000, ...options });
  return { session, text: tokenizer && new TextModel(session, tokenizer) };
}
