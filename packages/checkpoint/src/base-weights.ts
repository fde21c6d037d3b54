import { readFile, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { CheckpointError } from './errors.ts';
import { type FourBitTensor, fourBitOwner, readFourBit, readFourBitFloats } from './four-bit.ts';
import { openSafetensors, type Safetensors } from './safetensors.ts';

/** A weight of a checkpoint: its shape in the model, whatever form it is stored in. */
export interface BaseTensor {
  readonly shape: readonly number[];
  /** The safetensors type, or bitsandbytes' format. */
  readonly format: string;
}

/** The weights of a model without its graph. Only headers are in memory. */
export interface BaseWeights {
  readonly path: string;
  /** Floating-point and 4-bit weights by name; buffers of integers are left out. */
  readonly tensors: ReadonlyMap<string, BaseTensor>;
  /** As float32; 4-bit ones dequantized. @throws {CheckpointError} `checkpoint/missing`, `checkpoint/four-bit` */
  floats(name: string): Promise<Float32Array>;
  close(): Promise<void>;
}

/** Weights of other quantizers, which must not be taken for what they are not. */
const FOREIGN = /\.(?:qweight|qzeros|scales|g_idx|SCB|weight_scale|weight_scale_inv|weight_packed)$/;

/**
 * Opens the weights of a Hugging Face checkpoint: `model.safetensors`, or the shards that `model.safetensors.index.json`
 * names; plain, or with layers in bitsandbytes' 4 bits.
 * @param path the file, the index, or the folder that holds one of them
 * @throws {CheckpointError} `checkpoint/missing`, `checkpoint/index`, `checkpoint/four-bit`, `checkpoint/quantized`, and
 *   what `openSafetensors` throws
 */
export async function openBaseWeights(path: string): Promise<BaseWeights> {
  const files: Safetensors[] = [];
  try {
    const found = await findWeights(path);
    const index = found.endsWith('.json') ? await readIndex(found) : undefined;
    const names = index ? [...new Set(index.values())].map((name) => join(dirname(found), name)) : [found];
    for (const name of names) files.push(await openSafetensors(name));
    if (index) checkIndex(index, files, found);
    return new OpenWeights(found, files, await readTensors(files));
  } catch (error) {
    await Promise.all(files.map((file) => file.close()));
    throw error;
  }
}

interface Located extends BaseTensor {
  readonly file: Safetensors;
  readonly fourBit: FourBitTensor | undefined;
}

class OpenWeights implements BaseWeights {
  readonly path: string;
  readonly tensors: ReadonlyMap<string, Located>;
  readonly #files: readonly Safetensors[];

  constructor(path: string, files: readonly Safetensors[], tensors: ReadonlyMap<string, Located>) {
    this.path = path;
    this.tensors = tensors;
    this.#files = files;
  }

  async floats(name: string): Promise<Float32Array> {
    const found = this.tensors.get(name);
    if (!found) throw new CheckpointError('checkpoint/missing', `${this.path} has no ${name}`, { where: this.path });
    const { file, fourBit } = found;
    return fourBit ? readFourBitFloats(file, name, fourBit) : file.floats(name);
  }

  async close(): Promise<void> {
    await Promise.all(this.#files.map((file) => file.close()));
  }
}

async function findWeights(path: string): Promise<string> {
  const found = await stat(path).catch((cause: NodeJS.ErrnoException) => {
    throw new CheckpointError('checkpoint/missing', `no such weights: ${path}`, { where: path, cause });
  });
  if (!found.isDirectory()) return path;
  for (const name of ['model.safetensors', 'model.safetensors.index.json']) {
    const isThere = await stat(join(path, name)).catch(() => undefined);
    if (isThere?.isFile() === true) return join(path, name);
  }
  const message = `${path} has neither model.safetensors nor model.safetensors.index.json`;
  throw new CheckpointError('checkpoint/missing', message, { where: path });
}

/** Which shard holds each tensor. A shard is a file beside its index and nothing else. */
async function readIndex(path: string): Promise<ReadonlyMap<string, string>> {
  const fail = (what: string, cause?: unknown): CheckpointError =>
    new CheckpointError('checkpoint/index', `${path}: ${what}`, { where: path, cause });
  let json: unknown;
  try {
    json = JSON.parse(await readFile(path, 'utf8'));
  } catch (cause) {
    throw fail('is not JSON', cause);
  }
  const map: unknown = typeof json === 'object' && json !== null ? Reflect.get(json, 'weight_map') : undefined;
  if (typeof map !== 'object' || map === null) throw fail('has no weight_map');
  const index = new Map<string, string>();
  for (const [name, shard] of Object.entries(map) as [string, unknown][]) {
    if (
      typeof shard !== 'string' ||
      basename(shard) !== shard ||
      /[\\\0]/.test(shard) ||
      !shard.endsWith('.safetensors')
    )
      throw fail(`${name} lies in ${JSON.stringify(shard)}, which is no file beside the index`);
    index.set(name, shard);
  }
  if (index.size === 0) throw fail('names no tensor');
  return index;
}

function checkIndex(index: ReadonlyMap<string, string>, files: readonly Safetensors[], path: string): void {
  const fail = (what: string): never => {
    throw new CheckpointError('checkpoint/index', `${path}: ${what}`, { where: path });
  };
  const held = new Map<string, string>();
  for (const file of files) {
    for (const name of file.tensors.keys()) {
      if (held.has(name)) fail(`${name} lies in ${held.get(name)} and in ${basename(file.path)}`);
      held.set(name, basename(file.path));
    }
  }
  for (const [name, shard] of index) if (held.get(name) !== shard) fail(`${name} is not in ${shard}`);
}

async function readTensors(files: readonly Safetensors[]): Promise<ReadonlyMap<string, Located>> {
  const tensors = new Map<string, Located>();
  for (const file of files) {
    const states = new Set([...file.tensors.keys()].map(fourBitOwner));
    for (const [name, { dtype, shape }] of file.tensors) {
      if (FOREIGN.test(name)) {
        const message = `${file.path}: ${name} is of a quantizer that is not read; only bitsandbytes' 4 bits are`;
        throw new CheckpointError('checkpoint/quantized', message, { where: file.path });
      }
      const owner = fourBitOwner(name);
      if (owner !== undefined && file.tensors.has(owner)) continue;
      const fourBit = states.has(name) ? await readFourBit(file, name) : undefined;
      if (fourBit) tensors.set(name, { ...fourBit, file, fourBit });
      else if (/^(?:B?F16|F32|F64)$/.test(dtype)) tensors.set(name, { shape, format: dtype, file, fourBit });
      else if (name.endsWith('.weight')) {
        const message = `${file.path}: ${name} is ${dtype}, and has no quant_state that says what it stands for`;
        throw new CheckpointError('checkpoint/quantized', message, { where: file.path });
      }
    }
  }
  return tensors;
}
