import type { SessionInput, Tensors, TensorValue } from '@flotilla/runtime';

/**
 * One step of a decoder with a KV cache, on made-up tokens and a cache of zeros: what it costs and which kernels it takes
 * do not depend on the numbers.
 */
export function decoderFeeds(inputs: readonly SessionInput[], tokens: number, past: number): Tensors {
  return Object.fromEntries(inputs.map(({ name, dims }) => [name, feed(name, dims, tokens, past)]));
}

function feed(name: string, dims: readonly (number | string)[], tokens: number, past: number): TensorValue {
  if (name.startsWith('past')) {
    const [heads, size] = [Number(dims[1]), Number(dims[3])];
    return { dtype: 'float32', dims: [1, heads, past, size], data: new Float32Array(heads * past * size) };
  }
  const length = name === 'attention_mask' ? past + tokens : tokens;
  return { dtype: 'int64', dims: [1, length], data: new BigInt64Array(length).fill(1n) };
}
