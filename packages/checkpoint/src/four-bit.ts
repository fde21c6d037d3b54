import { dequantizeFourBit, QuantError, unnestAbsMax } from '@flotilla/quant';
import { CheckpointError } from './errors.ts';
import type { Safetensors } from './safetensors.ts';

/** A weight that bitsandbytes stored in 4 bits: its own bytes, and what its companions say of them. */
export interface FourBitTensor {
  readonly format: 'nf4' | 'fp4';
  /** What the weights were before. */
  readonly shape: readonly number[];
  readonly block: number;
  /** Of double quantization; undefined where the block maxima are float32. */
  readonly nested: { readonly block: number; readonly offset: number } | undefined;
}

const STATE = '.quant_state.bitsandbytes__';
const PARTS = ['absmax', 'quant_map', 'nested_absmax', 'nested_quant_map'] as const;

/** The 4-bit weight that a tensor is part of, by its name; undefined for any other tensor. */
export function fourBitOwner(name: string): string | undefined {
  const state = name.indexOf(STATE);
  if (state > 0) return name.slice(0, state);
  const part = PARTS.find((end) => name.endsWith(`.${end}`));
  return part && name.slice(0, -part.length - 1);
}

/**
 * What the companions say of a weight; undefined where it has none.
 * @throws {CheckpointError} `checkpoint/four-bit`
 */
export async function readFourBit(file: Safetensors, name: string): Promise<FourBitTensor | undefined> {
  const stateName = [...file.tensors.keys()].find((other) => other.startsWith(`${name}${STATE}`));
  if (stateName === undefined) return undefined;
  const fail = (what: string, cause?: unknown): CheckpointError => fourBitError(file, `${name}: ${what}`, cause);
  const format = stateName.slice(name.length + STATE.length);
  if (format !== 'nf4' && format !== 'fp4') throw fail(`bitsandbytes' ${format} is neither nf4 nor fp4`);
  const state = parseState(await file.read(stateName), fail);
  const shape = counts(state.get('shape'));
  const block = Number(state.get('blocksize'));
  if (!shape || state.get('quant_type') !== format) throw fail('quant_state has no shape, or another quant_type');
  const elements = shape.reduce((product, dim) => product * BigInt(dim), 1n);
  const { byteLength = 0 } = file.tensors.get(name) ?? {};
  if (elements !== BigInt(byteLength) * 2n) throw fail(`[${shape.join(', ')}] in ${byteLength} bytes, two to a byte`);
  const missing = ['absmax', 'quant_map'].find((part) => !file.tensors.has(`${name}.${part}`));
  if (missing !== undefined) throw fail(`${missing} is missing`);
  return { format, shape, block, nested: nestedOf(file, name, state, fail) };
}

function nestedOf(
  file: Safetensors,
  name: string,
  state: ReadonlyMap<string, unknown>,
  fail: (what: string) => CheckpointError,
): FourBitTensor['nested'] {
  const isNested = file.tensors.get(`${name}.absmax`)?.dtype === 'U8';
  if (!isNested) return undefined;
  const lacking = ['nested_absmax', 'nested_quant_map'].find((part) => !file.tensors.has(`${name}.${part}`));
  if (lacking !== undefined) throw fail(`absmax is in 8 bits, and ${lacking} is missing`);
  const [offset, block] = [state.get('nested_offset'), Number(state.get('nested_blocksize'))];
  if (typeof offset !== 'number') throw fail('absmax is in 8 bits, and nested_offset is missing from quant_state');
  return { block, offset: Math.fround(offset) };
}

/**
 * The weights as float32: `quant_map[code] · absmax`, what bitsandbytes computes with.
 * @throws {CheckpointError} `checkpoint/four-bit` where lengths do not fit, or a number is not finite
 */
export async function readFourBitFloats(file: Safetensors, name: string, tensor: FourBitTensor): Promise<Float32Array> {
  const { format, shape, block, nested } = tensor;
  const maxima = `${name}.absmax`;
  try {
    const absMax = nested
      ? unnestAbsMax({
          codes: await file.read(maxima),
          absMax: await file.floats(`${name}.nested_absmax`),
          map: await file.floats(`${name}.nested_quant_map`),
          ...nested,
        })
      : await file.floats(maxima);
    const levels = await file.floats(`${name}.quant_map`);
    const count = shape.reduce((product, dim) => product * dim, 1);
    return dequantizeFourBit({ packed: await file.read(name), absMax }, { format, block, count, levels });
  } catch (cause) {
    if (!(cause instanceof QuantError)) throw cause;
    throw fourBitError(file, `${name}: ${cause.message}`, cause);
  }
}

function parseState(
  bytes: Uint8Array,
  fail: (what: string, cause?: unknown) => CheckpointError,
): ReadonlyMap<string, unknown> {
  try {
    const json: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)); // NaN is not JSON
    if (typeof json === 'object' && json !== null) return new Map(Object.entries(json));
  } catch (cause) {
    throw fail('quant_state is not JSON', cause);
  }
  throw fail('quant_state is not a JSON object');
}

function counts(value: unknown): readonly number[] | undefined {
  const isShape = Array.isArray(value) && value.every((dim) => Number.isSafeInteger(dim) && Number(dim) > 0);
  return isShape ? (value as number[]) : undefined;
}

function fourBitError(file: Safetensors, what: string, cause: unknown): CheckpointError {
  return new CheckpointError('checkpoint/four-bit', `${file.path}: ${what}`, { where: file.path, cause });
}
