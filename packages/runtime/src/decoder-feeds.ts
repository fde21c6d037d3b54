import { isNumericDtype, makeTensor } from './tensors.ts';
import type { SessionInput, Tensors, TensorValue } from './types.ts';

/**
 * The inputs of a decoder with a KV cache (in the naming of Optimum's exports) for one sequence, logits of all positions.
 * @param ids tokens to feed
 * @param past tokens in the cache, whose keys and values are zeros
 */
export function decoderFeeds(inputs: readonly SessionInput[], ids: readonly number[], past = 0): Tensors {
  const feeds: { [name: string]: TensorValue } = {};
  for (const { name, dtype, dims } of inputs) {
    if (name === 'input_ids') feeds[name] = int64([1, ids.length], (i) => ids[i] ?? 0);
    else if (name === 'attention_mask') feeds[name] = int64([1, past + ids.length], () => 1);
    else if (name === 'position_ids') feeds[name] = int64([1, ids.length], (i) => past + i);
    else if (name === 'num_logits_to_keep') feeds[name] = int64(dims.length === 0 ? [] : [1], () => 0);
    else if (name.startsWith('past_key_values.') && isNumericDtype(dtype))
      feeds[name] = makeTensor(dtype, [1, Number(dims[1]), past, Number(dims[3])]);
  }
  return feeds;
}

function int64(dims: readonly number[], value: (index: number) => number): TensorValue {
  const length = dims.reduce((product, dim) => product * dim, 1);
  return { dtype: 'int64', dims, data: BigInt64Array.from({ length }, (_, i) => BigInt(value(i))) };
}
