import type { Tensors, TensorValue } from '@flotilla/runtime';
import type { DataInput } from '../data/data-set.ts';

/**
 * The inputs of a decoder with a KV cache (in the naming of Optimum's exports) for one sequence.
 * @param ids tokens to feed
 * @param past tokens in the cache, whose keys and values are zeros
 */
export function textFeeds(inputs: readonly DataInput[], ids: readonly number[], past = 0): Tensors {
  const feeds: { [name: string]: TensorValue } = {};
  for (const { name, dims } of inputs) {
    if (name === 'input_ids') feeds[name] = int64(ids.map(BigInt));
    else if (name === 'attention_mask') feeds[name] = int64(Array.from({ length: past + ids.length }, () => 1n));
    else if (name === 'position_ids') feeds[name] = int64(ids.map((_, i) => BigInt(past + i)));
    else if (name.startsWith('past_key_values.')) {
      const [, heads, , size] = dims;
      const shape = [1, Number(heads), past, Number(size)];
      const length = shape.reduce((all, dim) => all * dim, 1);
      feeds[name] = { dtype: 'float32', dims: shape, data: new Float32Array(length) };
    }
  }
  return feeds;
}

function int64(values: readonly bigint[]): TensorValue {
  return { dtype: 'int64', dims: [1, values.length], data: BigInt64Array.from(values) };
}
