import { bitsOf } from './data-types.ts';
import { OnnxError } from './errors.ts';
import { bfloat16ToFloat, float4ToFloat, float6ToFloat, float8ToFloat, float16ToFloat } from './small-floats.ts';
import { StoredTensor } from './tensor.ts';
import type { Tensor } from './types.ts';

/** How many elements the dims say. */
export function elementCount({ dims }: Pick<Tensor, 'dims'>): number {
  return dims.reduce((product, dim) => product * dim, 1);
}

/**
 * The elements as float32, from any real type: floats of every width, integers, bool. Of float32 a view where the bytes allow one.
 * @throws {OnnxError} `onnx/data-type` for strings and complex numbers
 */
export function floats(tensor: Tensor): Float32Array {
  const bytes = tensor.bytes();
  if (tensor.dtype === 'float32') {
    const { buffer, byteOffset, byteLength } = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice();
    return new Float32Array(buffer, byteOffset, byteLength / 4);
  }
  const read = elementReader(tensor, bytes);
  return Float32Array.from({ length: elementCount(tensor) }, (_, i) => Number(read(i)));
}

/**
 * The elements of an integer or bool tensor, beyond 2^53 the nearest double. For shapes, axes and the like, not for weights.
 * @throws {OnnxError} `onnx/data-type` for other types
 */
export function integers(tensor: Tensor): number[] {
  if (!/^(u?int\d+|bool)$/.test(tensor.dtype))
    throw new OnnxError('onnx/data-type', `tensor "${tensor.name}" holds ${tensor.dtype}, not integers`, {
      where: tensor.name,
    });
  const read = elementReader(tensor, tensor.bytes());
  // INT64_MAX, which is how Slice says "to the end", comes out as the nearest double.
  return Array.from({ length: elementCount(tensor) }, (_, i) => Number(read(i)));
}

/** The elements of a string tensor. @throws {OnnxError} `onnx/data-type` for other types */
export function strings(tensor: Tensor): string[] {
  if (tensor instanceof StoredTensor) return tensor.strings();
  throw new OnnxError('onnx/data-type', `tensor "${tensor.name}" holds ${tensor.dtype}, not strings`, {
    where: tensor.name,
  });
}

function elementReader(tensor: Tensor, bytes: Uint8Array): (index: number) => number | bigint {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const packed = packedReader(bytes, bitsOf(tensor.dtype));
  switch (tensor.dtype) {
    case 'float32':
      return (i) => view.getFloat32(i * 4, true);
    case 'float64':
      return (i) => view.getFloat64(i * 8, true);
    case 'float16':
      return (i) => float16ToFloat(view.getUint16(i * 2, true));
    case 'bfloat16':
      return (i) => bfloat16ToFloat(view.getUint16(i * 2, true));
    case 'int64':
      return (i) => view.getBigInt64(i * 8, true);
    case 'uint64':
      return (i) => view.getBigUint64(i * 8, true);
    case 'int32':
      return (i) => view.getInt32(i * 4, true);
    case 'uint32':
      return (i) => view.getUint32(i * 4, true);
    case 'int16':
      return (i) => view.getInt16(i * 2, true);
    case 'uint16':
      return (i) => view.getUint16(i * 2, true);
    case 'int8':
      return (i) => view.getInt8(i);
    case 'uint8':
    case 'bool':
      return (i) => view.getUint8(i);
    case 'int4':
      return (i) => (packed(i) << 28) >> 28;
    case 'int2':
      return (i) => (packed(i) << 30) >> 30;
    case 'uint4':
    case 'uint2':
      return packed;
    case 'float4e2m1':
      return (i) => float4ToFloat(packed(i));
    case 'float6e2m3':
      return (i) => float6ToFloat(packed(i), 3);
    case 'float6e3m2':
      return (i) => float6ToFloat(packed(i), 2);
    case 'float8e4m3fn':
    case 'float8e4m3fnuz':
    case 'float8e5m2':
    case 'float8e5m2fnuz':
    case 'float8e8m0': {
      const { dtype } = tensor;
      return (i) => float8ToFloat(view.getUint8(i), dtype);
    }
    case 'string':
    case 'complex64':
    case 'complex128':
      throw new OnnxError('onnx/data-type', `tensor "${tensor.name}" holds ${tensor.dtype}, not real numbers`, {
        where: tensor.name,
      });
  }
}

/** Elements of 2, 4 or 6 bits, the first one in the lowest bits. */
function packedReader(bytes: Uint8Array, bits: number): (index: number) => number {
  const mask = (1 << bits) - 1;
  return (index) => {
    const at = Math.floor((index * bits) / 8);
    const pair = (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8);
    return (pair >> ((index * bits) % 8)) & mask;
  };
}
