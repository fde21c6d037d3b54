import type { Tensor as OrtTensor } from 'onnxruntime-node';
import { RuntimeError } from './errors.ts';
import type { SessionInput, Tensors, TensorValue } from './types.ts';

export type OrtTensorClass = typeof OrtTensor;

const ARRAYS = {
  float32: Float32Array,
  float64: Float64Array,
  float16: Uint16Array,
  uint16: Uint16Array,
  int8: Int8Array,
  uint8: Uint8Array,
  bool: Uint8Array,
  int16: Int16Array,
  int32: Int32Array,
  uint32: Uint32Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
} as const;

export type NumericDtype = keyof typeof ARRAYS;

export function isNumericDtype(dtype: string): dtype is NumericDtype {
  return Object.hasOwn(ARRAYS, dtype);
}

/** A tensor of zeros, or of a copy of little-endian `bytes`. */
export function makeTensor(dtype: NumericDtype, dims: readonly number[], bytes?: Uint8Array): TensorValue {
  const Type = ARRAYS[dtype];
  const length = elements(dims);
  if (!bytes) return { dtype, dims, data: new Type(length) } as TensorValue;
  // A copy by constructor: `slice` of a Buffer copies nothing, and its buffer is a pool that others write to.
  return { dtype, dims, data: new Type(new Uint8Array(bytes).buffer, 0, length) } as TensorValue;
}

export function bytesPerElement(dtype: NumericDtype): number {
  return ARRAYS[dtype].BYTES_PER_ELEMENT;
}

export function elements(dims: readonly number[]): number {
  return dims.reduce((product, dim) => product * dim, 1);
}

/** @throws {RuntimeError} `runtime/input` */
export function checkFeeds(inputs: readonly SessionInput[], feeds: Tensors): void {
  let fed = 0;
  for (const input of inputs) {
    const tensor = Object.hasOwn(feeds, input.name) ? feeds[input.name] : undefined;
    if (tensor) {
      fed++;
      checkTensor(input, tensor);
    } else throw badInput(input.name, `is missing (${describe(input)})`);
  }
  if (fed === Object.keys(feeds).length) return;
  const names = new Set(inputs.map((input) => input.name));
  for (const name of Object.keys(feeds)) if (!names.has(name)) throw badInput(name, 'is not an input of the model');
}

function checkTensor(input: SessionInput, { dtype, dims, data }: TensorValue): void {
  if (dtype !== input.dtype) throw badInput(input.name, `is ${dtype}, the model takes ${describe(input)}`);
  if (!dims.every((dim) => Number.isSafeInteger(dim) && dim >= 0))
    throw badInput(input.name, `has shape [${dims.join(', ')}]`);
  if (elements(dims) !== data.length)
    throw badInput(input.name, `has ${data.length} elements for shape [${dims.join(', ')}]`);
  const fits =
    dims.length === input.dims.length && input.dims.every((dim, axis) => typeof dim === 'string' || dim === dims[axis]);
  // ONNX Runtime reports an unknown rank as rank 0.
  if (!fits && input.dims.length > 0)
    throw badInput(input.name, `is [${dims.join(', ')}], the model takes ${describe(input)}`);
}

function describe(input: SessionInput): string {
  return `${input.dtype} [${input.dims.join(', ')}]`;
}

function badInput(name: string, problem: string): RuntimeError {
  return new RuntimeError('runtime/input', `input ${JSON.stringify(name)} ${problem}`, { where: name });
}

/** No copy. */
export function toOrt(Tensor: OrtTensorClass, value: TensorValue): OrtTensor {
  const tensor = new Tensor(value.dtype as 'float32', value.data as Float32Array, value.dims);
  // Where there is a Float16Array (Node 24) it becomes one, in which the binding finds no bytes.
  if (value.dtype === 'float16' && !(tensor.data instanceof Uint16Array))
    Object.defineProperty(tensor, 'data', { value: value.data });
  return tensor;
}

/** No copy. */
export function fromOrt(tensor: OrtTensor): TensorValue {
  const { type: dtype, dims, data } = tensor;
  // Node 24 has Float16Array; a tensor's contract here is the bits.
  if (dtype === 'float16' && !(data instanceof Uint16Array)) {
    const half = data as unknown as { buffer: ArrayBuffer; byteOffset: number; length: number };
    return { dtype, dims, data: new Uint16Array(half.buffer, half.byteOffset, half.length) };
  }
  return { dtype, dims, data } as unknown as TensorValue;
}
