import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { CheckpointError } from './errors.ts';

/** A model on disk with what lies beside it. */
export interface ModelFolder {
  /** Folder's or file's name without extension: what a pack of it is called. */
  readonly name: string;
  readonly onnxPath: string;
  /** Files that a pack carries along. */
  readonly files: readonly { readonly path: string; readonly role: 'tokenizer' | 'config'; readonly source: string }[];
  /** `config.json`, undefined where there is none. */
  readonly config: { readonly [field: string]: unknown } | undefined;
  /** A tokenizer and a decoder-only configuration are there: the model can generate text. */
  readonly isText: boolean;
}

const COMPANIONS = [
  ['tokenizer.json', 'tokenizer'],
  ['tokenizer_config.json', 'tokenizer'],
  ['special_tokens_map.json', 'tokenizer'],
  ['chat_template.jinja', 'tokenizer'],
  ['config.json', 'config'],
  ['generation_config.json', 'config'],
] as const;

/**
 * Finds the ONNX file and its companions: in a folder in the layout of Hugging Face exports (`config.json`,
 * `tokenizer.json`, `model.onnx` or `onnx/model.onnx`, or another `.onnx` file if it is the only one), or beside an `.onnx` file that lies in such a folder.
 * @throws {CheckpointError} `checkpoint/missing`, `checkpoint/no-model`
 */
export async function openModelFolder(path: string): Promise<ModelFolder> {
  const found = await stat(path).catch((cause: NodeJS.ErrnoException) => {
    throw new CheckpointError('checkpoint/missing', `no such model: ${path}`, { where: path, cause });
  });
  const onnxPath = found.isDirectory() ? await findOnnx(path) : path;
  const folder = found.isDirectory() ? path : dirname(path);
  const root = basename(resolve(folder)) === 'onnx' ? dirname(resolve(folder)) : folder;
  const files: ModelFolder['files'][number][] = [];
  for (const [name, role] of COMPANIONS) {
    const source = join(root, name);
    if (await isFile(source)) files.push({ path: name, role, source });
  }
  const config = await readConfig(join(root, 'config.json'));
  const stem = basename(onnxPath).replace(/\.onnx$/i, '');
  return {
    name: found.isDirectory() || stem === 'model' ? basename(resolve(root)) : stem,
    onnxPath,
    files: config ? files : [],
    config,
    isText: config !== undefined && files.some((file) => file.path === 'tokenizer.json') && isCausal(config),
  };
}

async function findOnnx(folder: string): Promise<string> {
  for (const name of ['model.onnx', 'onnx/model.onnx']) {
    if (await isFile(join(folder, name))) return join(folder, name);
  }
  // Exports for transformers.js call a quantized model after its weights: onnx/model_q4.onnx.
  const found = [...(await onnxFilesOf(folder)), ...(await onnxFilesOf(join(folder, 'onnx')))];
  const [only] = found;
  if (only !== undefined && found.length === 1) return only;
  const others = found.map((path) => relative(folder, path)).join(', ');
  const message = `${folder} has neither model.onnx nor onnx/model.onnx${others === '' ? '' : `, but ${others}`}`;
  throw new CheckpointError('checkpoint/no-model', message, { where: folder, hint: 'give the .onnx file itself' });
}

async function onnxFilesOf(folder: string): Promise<readonly string[]> {
  const names = await readdir(folder).catch(() => [] as string[]);
  return names
    .filter((name) => /\.onnx$/i.test(name))
    .toSorted()
    .map((name) => join(folder, name));
}

async function readConfig(path: string): Promise<ModelFolder['config']> {
  if (!(await isFile(path))) return undefined;
  try {
    const json: unknown = JSON.parse(await readFile(path, 'utf8'));
    return typeof json === 'object' && json !== null ? { ...json } : undefined;
  } catch {
    return undefined; // some other tool's config.json beside an .onnx file
  }
}

/** Decoder-only models: Hugging Face names their architectures so. */
function isCausal(config: { readonly [field: string]: unknown }): boolean {
  const { architectures } = config;
  return Array.isArray(architectures) && architectures.some((name) => /CausalLM|LMHeadModel/.test(String(name)));
}

async function isFile(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isFile(),
    () => false,
  );
}
