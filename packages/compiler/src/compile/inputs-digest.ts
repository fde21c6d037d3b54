import { createHash } from 'node:crypto';
import { readdir, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { dataFiles } from '@flotilla/onnx';
import { formatRecipe, type Recipe } from '../recipe.ts';
import type { CompileOptions } from './options.ts';
import type { Source } from './source.ts';

/** Raised when the same inputs give other weights. */
const VERSION = 2;

/**
 * Of all that finished weights depend on: the recipe, and every input by path, size and time of change. Reading gigabytes
 * to tell whether they changed would cost what resuming saves.
 */
export async function inputsDigest(source: Source, recipe: Recipe, options: CompileOptions): Promise<string> {
  const { data, preprocess, base, basePack, lora = [], loraMap, loraCombine, loraMode, eval: judge } = options;
  const { fixShapes, boards, budget } = options;
  const paths = [
    source.folder.onnxPath,
    ...source.folder.files.map((file) => file.source), // the tokenizer makes calibration data
    ...dataFiles(source.model),
    ...[data, judge].flatMap((path) => (path === undefined ? [] : [path.replace(/:\d+$/, '')])),
    ...[preprocess, base, basePack, loraMap].flatMap((path) => (path === undefined ? [] : [path])),
    ...lora.map(({ dir }) => dir),
  ];
  const files = await Promise.all(paths.map((path) => describe(resolve(path))));
  const rest = { data, judge, lora, loraCombine, loraMode, fixShapes, boards, budget };
  return createHash('sha256')
    .update(JSON.stringify([VERSION, formatRecipe(recipe), files, rest]))
    .digest('hex');
}

/** A file, or a folder with all that is in it. What is not there (a glob) is told by its name. */
async function describe(path: string): Promise<unknown> {
  const found = await stat(path).catch(() => undefined);
  if (!found) return [path];
  if (!found.isDirectory()) return [path, found.size, found.mtimeMs, found.ino];
  const names = (await readdir(path)).filter((name) => !name.startsWith('.')).toSorted();
  return [path, ...(await Promise.all(names.map((name) => describe(join(path, name)))))];
}
