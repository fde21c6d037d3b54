import { RuntimeError } from './errors.ts';
import { isNumericDtype, makeTensor, type NumericDtype } from './tensors.ts';
import type { LoadedSession, Tensors, TensorValue } from './types.ts';

/** A causal language model with a KV cache, in the naming of Optimum's exports. */
export interface DecoderIo {
  readonly vocabulary: number | undefined;
  /** `present.N.key` → `past_key_values.N.key`: what stays in the session from step to step. */
  readonly keep: { readonly [output: string]: string };
  /** An empty cache for a batch. */
  emptyPast(batch: number): Tensors;
  /**
   * @param ids `[batch, length]`, row-major
   * @param past tokens in the cache
   */
  stepFeeds(ids: readonly number[], batch: number, past: number): Tensors;
}

/** @throws {RuntimeError} `runtime/not-text`, naming what is missing */
export function decoderIo(session: LoadedSession): DecoderIo {
  const inputs = new Map(session.inputs.map((input) => [input.name, input]));
  const logits = session.outputs.find((output) => output.name === 'logits');
  if (!inputs.has('input_ids')) throw notText('no input input_ids');
  if (!logits) throw notText('no output logits');
  const caches: { name: string; dtype: NumericDtype; dims: readonly (number | string)[] }[] = [];
  const keep: { [output: string]: string } = {};
  for (const { name, dtype, dims } of session.inputs) {
    const found = /^past_key_values\.(\d+)\.(key|value)$/.exec(name);
    if (!found) continue;
    const present = `present.${found[1]}.${found[2]}`;
    if (!session.outputs.some((output) => output.name === present)) throw notText(`no output ${present}`);
    if (!isNumericDtype(dtype) || dims.length !== 4) throw notText(`${name} is ${dtype} [${dims.join(', ')}]`);
    caches.push({ name, dtype, dims });
    keep[present] = name;
  }
  if (caches.length === 0) throw notText('no past_key_values inputs');
  for (const name of inputs.keys())
    if (!['input_ids', 'attention_mask', 'position_ids'].includes(name) && !name.startsWith('past_key_values.'))
      throw notText(`an input ${name} that no rule fills`);
  const last = logits.dims.at(-1);
  return {
    vocabulary: typeof last === 'number' ? last : undefined,
    keep,
    emptyPast: (batch) =>
      Object.fromEntries(
        caches.map(({ name, dtype, dims: [, heads, , size] }) => [
          name,
          makeTensor(dtype, [batch, fixed(heads, name), 0, fixed(size, name)]),
        ]),
      ),
    stepFeeds(ids, batch, past) {
      const length = ids.length / batch;
      const feeds: { [name: string]: TensorValue } = { input_ids: int64([batch, length], (i) => ids[i] ?? 0) };
      if (inputs.has('attention_mask')) feeds['attention_mask'] = int64([batch, past + length], () => 1);
      if (inputs.has('position_ids')) feeds['position_ids'] = int64([batch, length], (i) => past + (i % length));
      return feeds;
    },
  };
}

function fixed(dim: number | string | undefined, name: string): number {
  if (typeof dim === 'number') return dim;
  throw notText(`${name} does not state its heads and their size`);
}

function int64(dims: readonly [number, number], value: (index: number) => number): TensorValue {
  const data = new BigInt64Array(dims[0] * dims[1]);
  for (let i = 0; i < data.length; i++) data[i] = BigInt(value(i));
  return { dtype: 'int64', dims, data };
}

function notText(problem: string): RuntimeError {
  return new RuntimeError('runtime/not-text', `not a causal language model with a KV cache: ${problem}`);
}
