import { RuntimeError } from './errors.ts';
import { elements, isNumericDtype, makeTensor } from './tensors.ts';
import type { SessionInput, Tensors, TensorValue } from './types.ts';

/**
 * Inputs to measure a model with when there are no real ones: floats in [0, 1) from a fixed sequence, integers 0 and 1.
 * @param sizes lengths for symbolic dimensions, by their names; others are 1
 * @throws {RuntimeError} `runtime/input` for inputs that are not numbers
 */
export function syntheticFeeds(
  inputs: readonly SessionInput[],
  sizes: { readonly [dimension: string]: number } = {},
): Tensors {
  return Object.fromEntries(inputs.map((input) => [input.name, syntheticTensor(input, sizes)]));
}

function syntheticTensor(input: SessionInput, sizes: { readonly [dimension: string]: number }): TensorValue {
  if (!isNumericDtype(input.dtype))
    throw new RuntimeError('runtime/input', `input ${JSON.stringify(input.name)} is ${input.dtype}: give real data`);
  const dims = input.dims.map((dim) => (typeof dim === 'number' ? dim : (sizes[dim] ?? 1)));
  const length = elements(dims);
  if (length > 2 ** 28)
    throw new RuntimeError('runtime/input', `input ${JSON.stringify(input.name)} is [${dims.join(', ')}]`);
  const tensor = makeTensor(input.dtype, dims);
  let state = 1;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0; // Numerical Recipes' LCG
    if (tensor.dtype === 'float32' || tensor.dtype === 'float64') tensor.data[i] = state / 2 ** 32;
    else if (tensor.dtype === 'float16')
      tensor.data[i] = 0x3800; // 0.5
    else if (tensor.dtype === 'int64' || tensor.dtype === 'uint64') tensor.data[i] = BigInt(state >>> 31);
    else if (tensor.dtype !== 'string') tensor.data[i] = state >>> 31;
  }
  return tensor;
}
