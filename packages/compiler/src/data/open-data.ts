import { type Stats } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { basename, dirname, extname, join } from 'node:path';
import { CompilerError } from '../errors.ts';
import type { DataInput, DataSet } from './data-set.ts';
import { arrayData } from './array-data.ts';
import { imageData } from './image-data.ts';
import { moduleData } from './module-data.ts';
import { readPreprocess, type SoundRules } from './preprocess.ts';
import { soundData } from './sound-data.ts';
import { textData } from './text-data.ts';

export interface OpenDataOptions {
  /** The model's; samples are checked against them as they are read. */
  readonly inputs: readonly DataInput[];
  /** The file by whose rules a folder of pictures or sound becomes inputs. */
  readonly preprocess?: string | undefined;
}

/**
 * Opens a data set: a folder or glob of `.npz`/`.npy`, of pictures or of `.wav` (with `preprocess`), a `.jsonl`, `.json`
 * or `.txt` file, or an `.mjs` module, each optionally followed by `:N` for the first N samples. Nothing is read yet but
 * text files and the rules.
 * @throws {CompilerError} `compiler/data`, `compiler/preprocess`
 */
export async function openData(path: string, { inputs, preprocess }: OpenDataOptions): Promise<DataSet> {
  const { base, limit } = await splitLimit(path);
  const found = await exists(base);
  if (found?.isDirectory() && preprocess !== undefined) return mediaData(path, { base, limit, inputs, preprocess });
  if (found?.isDirectory()) return arrayData(path, firstOf(await filesIn(base, isArray), limit), inputs);
  if (!found && basename(base).includes('*')) {
    const files = await filesIn(dirname(base), globToRegExp(basename(base)));
    return arrayData(path, firstOf(files, limit), inputs);
  }
  if (!found) throw new CompilerError('compiler/data', `no such data: ${base}`, { where: base });
  switch (extname(base)) {
    case '.npz':
    case '.npy':
      return arrayData(path, [base], inputs);
    case '.jsonl':
    case '.json':
    case '.txt':
      return textData(base, limit);
    case '.mjs':
      return moduleData(base, limit, inputs);
    default: {
      const message = `${base}: a data set is a folder of .npz files, a .jsonl, .json, .txt or .mjs file`;
      throw new CompilerError('compiler/data', message, { where: base });
    }
  }
}

const isArray = /\.np[yz]$/;
const isPicture = /\.(png|jpe?g|webp)$/i;
const isSound = /\.wav$/i;

/** Pictures or sound, by what the preprocess file has rules for; classes may lie in folders of their own. */
async function mediaData(
  path: string,
  of: { base: string; limit: number | undefined; inputs: readonly DataInput[]; preprocess: string },
): Promise<DataSet> {
  const { base, limit, inputs } = of;
  const rules = await readPreprocess(of.preprocess);
  const { image, sound } = rules;
  if ((image === undefined) === (sound === undefined))
    throw new CompilerError('compiler/preprocess', `${of.preprocess} must have either image or sound rules`, {
      where: of.preprocess,
    });
  const files = (await readdir(base, { recursive: true })).filter((name) => (image ? isPicture : isSound).test(name));
  if (files.length === 0)
    throw new CompilerError('compiler/data', `${base} holds no ${image ? 'picture' : '.wav file'}`, { where: base });
  const paths = files.toSorted().map((name) => join(base, name));
  if (image) return imageData(path, firstOf(paths, limit), inputs, { ...rules, image });
  return soundData(path, paths, inputs, { preprocess: { ...rules, sound: sound as SoundRules }, limit });
}

/** A file that really ends in `:7` wins over the reading as a limit. */
async function splitLimit(path: string): Promise<{ base: string; limit: number | undefined }> {
  const [, base, count] = /^(.+):(\d+)$/.exec(path) ?? [];
  if (base === undefined || (await exists(path))) return { base: path, limit: undefined };
  if (Number(count) < 1) throw new CompilerError('compiler/data', `${path} asks for no samples`, { where: path });
  return { base, limit: Number(count) };
}

async function exists(path: string): Promise<Stats | undefined> {
  return stat(path).catch(() => undefined);
}

async function filesIn(folder: string, pattern: RegExp): Promise<string[]> {
  const names = await readdir(folder).catch((cause: NodeJS.ErrnoException) => {
    throw new CompilerError('compiler/data', `cannot list ${folder}: ${cause.code ?? cause.message}`, { cause });
  });
  const found = names.filter((name) => pattern.test(name)).toSorted();
  if (found.length > 0) return found.map((name) => join(folder, name));
  const hint = names.some((name) => /\.(png|jpe?g|webp|wav)$/i.test(name))
    ? 'for pictures and sound, say with --preprocess FILE.yaml how they become inputs'
    : undefined;
  throw new CompilerError('compiler/data', `${folder} holds no .npz or .npy file`, { where: folder, hint });
}

function firstOf<T>(items: readonly T[], limit: number | undefined): readonly T[] {
  return limit === undefined ? items : items.slice(0, limit);
}

function globToRegExp(glob: string): RegExp {
  const parts = glob.split('*').map((part) => part.replace(/[.+?^${}()|[\]\\]/g, '\\$&'));
  return new RegExp(`^${parts.join('.*')}$`);
}
