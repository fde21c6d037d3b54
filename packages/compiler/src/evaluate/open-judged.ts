import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { openModelFolder } from '@flotilla/checkpoint';
import { openRuntime } from '@flotilla/runtime';
import { parseKeys } from '../metrics/ctc-text.ts';
import type { Judged } from './judge.ts';
import { loadFolderTokenizer, loadOnnx } from './load-onnx.ts';

/** A model or pack that was opened to be judged. */
export interface OpenJudged extends Judged {
  /** The characters that a pack brings along. */
  readonly keys: readonly string[] | undefined;
  close(): Promise<void>;
}

export interface OpenJudgedOptions {
  readonly board?: string | undefined;
  readonly threads?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Opens a pack as its board would run it, or an ONNX model as it is. */
export async function openJudged(path: string, options: OpenJudgedOptions = {}): Promise<OpenJudged> {
  return (await isPack(path)) ? openPackJudged(path, options) : openModelJudged(path, options);
}

/** One tar, or a directory with an OCI layout in it. */
export async function isPack(path: string): Promise<boolean> {
  if (path.endsWith('.pack')) return true;
  return stat(join(path, 'oci-layout')).then(
    (found) => found.isFile(),
    () => false,
  );
}

async function openPackJudged(path: string, options: OpenJudgedOptions): Promise<OpenJudged> {
  const runtime = await openRuntime(path, options);
  const { pack, session } = runtime;
  const keys = pack.config.files.find(({ role }) => role === 'keys');
  return {
    session,
    text: pack.config.task === 'text' ? runtime.text() : undefined,
    keys: keys && parseKeys(new TextDecoder().decode(await pack.file(keys.path))),
    close: () => runtime.close(),
  };
}

async function openModelJudged(path: string, { threads, signal }: OpenJudgedOptions): Promise<OpenJudged> {
  const folder = await openModelFolder(path);
  const judged = await loadOnnx(folder.onnxPath, await loadFolderTokenizer(folder), { threads, signal });
  return { ...judged, keys: undefined, close: () => judged.session.close() };
}
