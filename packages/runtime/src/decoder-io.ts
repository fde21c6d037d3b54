import { RuntimeError } from './errors.ts';
import { isNumericDtype, type NumericDtype } from './tensors.ts';
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
   * False: outputs `present.N.*` hold the whole cache, to be fed as it is. True: outputs `new.N.*` hold the rows of the
   * tokens just fed, and the cache that is fed may be longer than what is valid in it: the attention mask says what is.
   */
  readonly rowsOnly: boolean;
  /** @param ids `[batch, length]`, row-major */
  stepFeeds(ids: readonly number[], place: StepPlace): Tensors;
}

export interface StepPlace {
  readonly batch: number;
  /** Tokens in the cache. */
  readonly past: number;
  /** Tokens that the fed cache has room for, `past` or more. */
  readonly capacity: number;
  /** Whether only the last position's logits are wanted: a model with `num_logits_to_keep` then computes no others. */
  readonly lastOnly: boolean;
}

const STEP_INPUTS = ['input_ids', 'attention_mask', 'position_ids', 'num_logits_to_keep'];

/** @throws {RuntimeError} `runtime/not-text`, naming what is missing */
export function decoderIo(session: Pick<Session, 'inputs' | 'outputs'>): DecoderIo {
  const inputs = new Map(session.inputs.map((input) => [input.name, input]));
  const logits = session.outputs.find((output) => output.name === 'logits');
  if (!inputs.has('input_ids')) throw notText('no input input_ids');
  if (!logits) throw notText('no output logits');
  const rowsOnly = session.outputs.some(({ name }) => /^new\.\d+\.(key|value)$/.test(name));
  const caches = cachesOf(session, rowsOnly ? 'new' : 'present');
  for (const name of inputs.keys())
    if (!STEP_INPUTS.includes(name) && !name.startsWith('past_key_values.'))
      throw notText(`an input ${name} that no rule fills`);
  const keepRank = inputs.get('num_logits_to_keep')?.dims.length;
  const last = logits.dims.at(-1);
  return {
    vocabulary: typeof last === 'number' ? last : undefined,
    caches,
    rowsOnly,
    stepFeeds(ids, { batch, past, capacity, lastOnly }) {
      const length = ids.length / batch;
      const width = capacity + length;
      const feeds: { [name: string]: TensorValue } = { input_ids: int64([batch, length], (i) => ids[i] ?? 0) };
      // A hole in the mask hides the room that nothing has filled yet.
      const shown = (i: number) => i % width < past || i % width >= capacity;
      if (inputs.has('attention_mask')) feeds['attention_mask'] = int64([batch, width], (i) => Number(shown(i)));
      if (inputs.has('position_ids')) feeds['position_ids'] = int64([batch, length], (i) => past + (i % length));
      if (keepRank !== undefined)
        feeds['num_logits_to_keep'] = int64(keepRank === 0 ? [] : [1], () => (lastOnly ? 1 : 0));
      return feeds;
    },
  };
}

function cachesOf({ inputs, outputs }: Pick<Session, 'inputs' | 'outputs'>, prefix: string): CacheIo[] {
  const caches: CacheIo[] = [];
  for (const { name, dtype, dims } of inputs) {
    const found = /^past_key_values\.(\d+)\.(key|value)$/.exec(name);
    if (!found) continue;
    const output = `${prefix}.${found[1]}.${found[2]}`;
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
  const data = new BigInt64Array(dims.reduce((product, dim) => product * dim, 1));
  for (let i = 0; i < data.length; i++) data[i] = BigInt(value(i));
  return { dtype: 'int64', dims, data };
}

function notText(problem: string): RuntimeError {
  return new RuntimeError('runtime/not-text', `not a causal language model with a KV cache: ${problem}`);
}
