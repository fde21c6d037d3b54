import { copyFile, mkdir, readFile, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { loadBoard } from '@flotilla/boards';
import { lowerModel } from '@flotilla/lowering';
import { type Model, openModel, type ValueInfo, writeModel } from '@flotilla/onnx';
import { CompilerError } from '../errors.ts';
import { withLeadingToken } from './leading-token.ts';
import { constantsOf, type Source } from './source.ts';
import type { SavedModel } from './save-model.ts';

/** How transformers.js calls what it loads, and the file's name that it then looks for. */
const DTYPES = {
  int4: { dtype: 'q4', file: 'model_q4.onnx' },
  int8: { dtype: 'q8', file: 'model_quantized.onnx' },
  fp32: { dtype: 'fp32', file: 'model.onnx' },
} as const;
/** protobuf ends at 2 GiB. */
const INLINE_BYTES = 1.5e9;

/**
 * A language model as a folder that transformers.js opens: `onnx/model_q4.onnx` (or `_quantized`, or none), config.json
 * that names it, the tokenizer. Weights are lowered to the kernels that every CPU has; attention stays as it was, since
 * that library pads prompts of a batch on the left, which fused attention does not know.
 */
export async function writeTransformers(
  out: string,
  { source, portable, weights }: { readonly source: Source; readonly portable: SavedModel; readonly weights: string },
): Promise<{ readonly digest: null; readonly bytes: number }> {
  const { dtype, file } = Object.entries(DTYPES).find(([name]) => weights.startsWith(name))?.[1] ?? DTYPES.fp32;
  // Beside the graph that was made, on the same disk: it appears whole, by a rename.
  const folder = join(dirname(portable.files[0]), 'transformers');
  await mkdir(join(folder, 'onnx'), { recursive: true });
  const { model } = lowerModel(
    await openModel(portable.files[0]),
    { ...(await loadBoard('host')), boardClass: 'x64' },
    { cache: 'plain' },
  );
  nameDimensions(model);
  const beside = [...constantsOf(model)].reduce((sum, { byteLength }) => sum + byteLength, 0) > INLINE_BYTES;
  const externalData = beside ? { location: `${file}_data`, minBytes: 1024 } : ('inline' as const);
  await writeModel(model, join(folder, 'onnx', file), { externalData });
  for (const { path, source: from } of source.folder.files) await copyFile(from, join(folder, path));
  const config = await readJson(join(folder, 'config.json'));
  const hint = { dtype, ...(beside && { use_external_data_format: true }) };
  await writeJson(join(folder, 'config.json'), { ...config, 'transformers.js_config': hint });
  await tellTemplate(folder);
  const vocabulary = await readJson(join(folder, 'tokenizer.json'));
  const first = source.tokenizer?.encode('')[0];
  const leading = first === undefined ? undefined : { token: tokenOf(vocabulary, first), id: first };
  await writeJson(join(folder, 'tokenizer.json'), withLeadingToken(vocabulary, leading));
  await rm(out, { recursive: true, force: true });
  await rename(folder, out);
  const names = await readdir(join(out, 'onnx'));
  const sizes = await Promise.all(names.map(async (name) => (await stat(join(out, 'onnx', name))).size));
  return { digest: null, bytes: sizes.reduce((sum, size) => sum + size, 0) };
}

/** It looks for a chat template in tokenizer_config.json alone. */
async function tellTemplate(folder: string): Promise<void> {
  const template = await readFile(join(folder, 'chat_template.jinja'), 'utf8').catch(() => undefined);
  if (template === undefined) return;
  const path = join(folder, 'tokenizer_config.json');
  const config = await readJson(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return {};
    throw error;
  });
  await writeJson(path, { ...config, chat_template: template });
}

async function readJson(path: string): Promise<{ readonly [key: string]: unknown }> {
  return JSON.parse(await readFile(path, 'utf8')) as { readonly [key: string]: unknown };
}

async function writeJson(path: string, value: object): Promise<void> {
  await writeFile(path, `${JSON.stringify(value, undefined, 2)}\n`);
}

/** A special token's text, as tokenizer.json lists it. */
function tokenOf({ added_tokens: added = [] }: { readonly [key: string]: unknown }, id: number): string {
  const list = added as readonly { readonly id: number; readonly content: string }[];
  return list.find((token) => token.id === id)?.content ?? '';
}

/** Before anything is computed. @throws {CompilerError} `compiler/output` */
export async function checkTransformers(out: string, { folder }: Source): Promise<void> {
  if (!folder.isText)
    throw new CompilerError('compiler/output', '--layout transformers is for language models with a tokenizer', {
      where: out,
      hint: 'give a folder with config.json and tokenizer.json',
    });
  await mayReplace(out);
}

/** It fills a first cache by these names. */
function nameDimensions({ graph }: Model): void {
  const rename = (info: ValueInfo): ValueInfo => {
    const [batch, ...rest] = info.type?.dims ?? [];
    if (!info.type || rest.length === 0 || typeof batch === 'number') return info;
    return { ...info, type: { ...info.type, dims: ['batch_size', ...rest] } };
  };
  graph.setInputs(graph.inputs.map(rename));
  graph.setOutputs(graph.outputs.map(rename));
}

/** Only an empty folder, or one that this wrote, is replaced. */
async function mayReplace(out: string): Promise<void> {
  const names = await readdir(resolve(out)).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [] as string[];
    throw new CompilerError('compiler/output', `${out}: ${error.code}`, { where: out, cause: error });
  });
  if (names.length === 0 || (names.includes('onnx') && names.includes('config.json'))) return;
  throw new CompilerError('compiler/output', `${out} is there already and will not be replaced`, {
    where: out,
    hint: 'choose another path, or remove it',
  });
}
