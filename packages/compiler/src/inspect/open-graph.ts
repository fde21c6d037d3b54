import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ModelFolder, openModelFolder } from '@flotilla/checkpoint';
import { type Model, openModel } from '@flotilla/onnx';
import { openPack } from '@flotilla/pack';
import { loadTokenizer, type TextTokenizer } from '@flotilla/runtime';
import { isPack } from '../evaluate/open-judged.ts';
import { loadFolderTokenizer } from '../evaluate/load-onnx.ts';

/** A model's graph, wherever it came from. */
export interface OpenGraph {
  readonly path: string;
  readonly onnxPath: string;
  readonly model: Model;
  /** Undefined for a pack. */
  readonly folder: ModelFolder | undefined;
  /** Of the graph's file and, in a pack, of its external data. */
  readonly fileBytes: number;
  /** Of a language model. */
  readonly tokenizer: TextTokenizer | undefined;
  /** What the compiler wrote into the pack; undefined for what is no pack, or has none. */
  readonly report: unknown;
  close(): Promise<void>;
}

/** @param path an `.onnx` file, a folder in Hugging Face layout, or a pack (unpacked beside the temporary files until `close`) */
export async function openGraph(path: string, signal?: AbortSignal): Promise<OpenGraph> {
  if (await isPack(path)) return openPackGraph(path, signal);
  const folder = await openModelFolder(path);
  return {
    path,
    onnxPath: folder.onnxPath,
    model: await openModel(folder.onnxPath, { signal }),
    folder,
    fileBytes: (await stat(folder.onnxPath)).size,
    tokenizer: await loadFolderTokenizer(folder),
    report: undefined,
    close: async () => {},
  };
}

async function openPackGraph(path: string, signal: AbortSignal | undefined): Promise<OpenGraph> {
  const pack = await openPack(path, { signal });
  const folder = await mkdtemp(join(tmpdir(), 'flotilla-graph-'));
  const close = async (): Promise<void> => {
    await pack.close();
    await rm(folder, { recursive: true, force: true });
  };
  try {
    const { files, task } = pack.config;
    const models = files.filter(({ role }) => role === 'model' || role === 'model-data');
    for (const file of models) await pack.extract(file.path, join(folder, file.path));
    const onnxPath = join(folder, models.find(({ role }) => role === 'model')?.path ?? 'model.onnx');
    const texts = new Map<string, Uint8Array>();
    for (const file of files)
      if (file.role === 'tokenizer' || file.role === 'config') texts.set(file.path, await pack.file(file.path));
    const report = files.find(({ role }) => role === 'report');
    return {
      path,
      onnxPath,
      model: await openModel(onnxPath, { signal }),
      folder: undefined,
      fileBytes: models.reduce((sum, file) => sum + file.bytes, 0),
      tokenizer: task === 'text' ? loadTokenizer(texts) : undefined,
      report: report && (JSON.parse(new TextDecoder().decode(await pack.file(report.path))) as unknown),
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}
