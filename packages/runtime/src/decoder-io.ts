import { IN_PLACE } from '@flotilla/lowering';
import { RuntimeError } from './errors.ts';
import { elements, isNumericDtype, type NumericDtype } from './tensors.ts';
import type { Session, Tensors, TensorValue } from './types.ts';

/** One layer's keys or values: `[batch, heads, tokens, size]`. */
export interface CacheIo {
  readonly input: string;
  readonly output: string;
  readonly dtype: NumericDtype;
  readonly heads: number;
  readonly size: number;
}

/** A causal language model with a KV cache, in the naming of Optimum's exports. */
export interface DecoderIo {
  readonly vocabulary: number | undefined;
  readonly caches: readonly CacheIo[];
  /**
   * False: outputs `present.N.*` are the whole cache, anew at every step. True: they are written into the buffers that
   * were fed, which may be longer than what is valid in them: the attention mask says what is.
   */
  readonly inPlace: boolean;
  /** Whether it can compute the last position's logits alone. */
  readonly keepsLast: boolean;
  /** @param ids `[batch, length]`, row-major */
  stepFeeds(ids: readonly number[], place: StepPlace): Tensors;
}

export interface StepPlace {
  readonly batch: number;
  /** Tokens in the cache. */
  readonly past: number;
  /** Of the attention mask, where the cache has room to spare: one shape for many steps, which ONNX Runtime plans for once. */
  readonly width?: number | undefined;
  /** Whether only the last position's logits are wanted: a model that `keepsLast` then computes no others. */
  readonly lastOnly: boolean;
}

const CACHE_OUTPUT = /^present\.\d+\.(key|value)$/;
const STEP_INPUTS = ['input_ids', 'attention_mask', 'position_ids', 'num_logits_to_keep'];

/** @throws {RuntimeError} `runtime/not-text`, naming what is missing */
export function decoderIo(session: Pick<Session, 'inputs' | 'outputs'>): DecoderIo {
  const inputs = new Map(session.inputs.map((input) => [input.name, input]));
  const logits = session.outputs.find((output) => output.name === 'logits');
  if (!inputs.has('input_ids')) throw notText('no input input_ids');
  if (!logits) throw notText('no output logits');
  const caches = cachesOf(session);
  for (const name of inputs.keys())
    if (!STEP_INPUTS.includes(name) && !name.startsWith('past_key_values.'))
      throw notText(`an input ${name} that no rule fills`);
  const keepRank = inputs.get('num_logits_to_keep')?.dims.length;
  const last = logits.dims.at(-1);
  return {
    vocabulary: typeof last === 'number' ? last : undefined,
    caches,
    inPlace: writesInPlace(session),
    stepFeeds(ids, { batch, past, width, lastOnly }) {
      const length = ids.length / batch;
      const feeds: { [name: string]: TensorValue } = { input_ids: int64([batch, length], (i) => ids[i] ?? 0) };
      if (inputs.has('attention_mask')) feeds['attention_mask'] = mask([batch, width ?? past + length], past + length);
      if (inputs.has('position_ids')) feeds['position_ids'] = int64([batch, length], (i) => past + (i % length));
      if (keepRank !== undefined)
        feeds['num_logits_to_keep'] = int64(keepRank === 0 ? [] : [1], () => (lastOnly ? 1 : 0));
      return feeds;
    },
    keepsLast: keepRank !== undefined,
  };
}

/** Whether `lowering` gave the model caches that are written where they are fed. */
export function writesInPlace({ outputs }: Pick<Session, 'outputs'>): boolean {
  return outputs.some(({ name }) => name === IN_PLACE);
}

/** Outputs of one step that is not to be gone on from: no caches. */
export function stepOutputs({ outputs }: Pick<Session, 'outputs'>): readonly string[] {
  return outputs.map(({ name }) => name).filter((name) => name !== IN_PLACE && !CACHE_OUTPUT.test(name));
}

function cachesOf({ inputs, outputs }: Pick<Session, 'inputs' | 'outputs'>): CacheIo[] {
  const caches: CacheIo[] = [];
  for (const { name, dtype, dims } of inputs) {
    const found = /^past_key_values\.(\d+)\.(key|value)$/.exec(name);
    if (!found) continue;
    const output = `present.${found[1]}.${found[2]}`;
    if (!outputs.some((one) => one.name === output)) throw notText(`no output ${output}`);
    if (!isNumericDtype(dtype) || dims.length !== 4) throw notText(`${name} is ${dtype} [${dims.join(', ')}]`);
    const [, heads, , size] = dims;
    if (typeof heads !== 'number' || typeof size !== 'number')
      throw notText(`${name} does not state its heads and their size`);
    caches.push({ input: name, output, dtype, heads, size });
  }
  if (caches.length === 0) throw notText('no past_key_values inputs');
  return caches;
}

function int64(dims: readonly number[], value: (index: number) => number): TensorValue {
  const data = new BigInt64Array(elements(dims));
  for (let i = 0; i < data.length; i++) data[i] = BigInt(value(i));
  return { dtype: 'int64', dims, data };
}

function mask(dims: readonly [rows: number, width: number], valid: number): TensorValue {
  const [rows, width] = dims;
  const data = new BigInt64Array(rows * width);
  for (let r = 0; r < rows; r++) data.fill(1n, r * width, r * width + valid);
  return { dtype: 'int64', dims, data };
}

function notText(problem: string): RuntimeError {
  return new RuntimeError('runtime/not-text', `not a causal language model with a KV cache: ${problem}`);
}
