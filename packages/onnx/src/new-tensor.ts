import { bitsOf, rawBytes } from './data-types.ts';
import { OnnxError } from './errors.ts';
import type { DataType, NewTensor } from './types.ts';

/** A float32 tensor; a `Float32Array` is shared, not copied. */
export function tensorFromFloats(dims: readonly number[], data: Float32Array | readonly number[]): NewTensor {
  const floats = data instanceof Float32Array ? data : Float32Array.from(data);
  return { dtype: 'float32', dims, bytes: new Uint8Array(floats.buffer, floats.byteOffset, floats.byteLength) };
}

/**
 * An integer or bool tensor of any width, 2- and 4-bit types packed.
 * @throws {OnnxError} `onnx/data-type` for another type; `onnx/tensor-data` for a number outside the type
 */
export function tensorFromInts(
  dtype: DataType,
  dims: readonly number[],
  numbers: Iterable<number | bigint>,
): NewTensor {
  const match = /^(u?)int(\d+)$/.exec(dtype === 'bool' ? 'uint8' : dtype);
  if (match === null) throw new OnnxError('onnx/data-type', `${dtype} is not an integer type`);
  const values = Array.from(numbers);
  const bits = bitsOf(dtype);
  const bytes = new Uint8Array(rawBytes(dtype, values.length));
  const view = new DataView(bytes.buffer);
  const top = dtype === 'bool' ? 1n : 2n ** BigInt(match[1] === 'u' ? bits : bits - 1) - 1n;
  const bottom = match[1] === 'u' ? 0n : -top - 1n;
  for (const [i, value] of values.entries()) {
    const whole = BigInt(value);
    if (whole < bottom || whole > top) throw new OnnxError('onnx/tensor-data', `${value} does not fit ${dtype}`);
    putInteger(view, i, bits, whole);
  }
  return { dtype, dims, bytes };
}

function putInteger(view: DataView, index: number, bits: number, value: bigint): void {
  if (bits === 64) view.setBigInt64(index * 8, BigInt.asIntN(64, value), true);
  else if (bits === 32) view.setInt32(index * 4, Number(BigInt.asIntN(32, value)), true);
  else if (bits === 16) view.setInt16(index * 2, Number(BigInt.asIntN(16, value)), true);
  else if (bits === 8) view.setInt8(index, Number(BigInt.asIntN(8, value)));
  else {
    // Packed, first element in the lowest bits.
    const at = Math.floor((index * bits) / 8);
    const shift = (index * bits) % 8;
    view.setUint8(at, view.getUint8(at) | (Number(BigInt.asUintN(bits, value)) << shift));
  }
}
