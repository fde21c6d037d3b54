import { bfloat16ToFloat32, float16ToFloat32 } from '@flotilla/quant';
import { CheckpointError } from './errors.ts';

/** Little-endian elements as float32: exact for F16, BF16 and F32, rounded for F64. */
export function toFloats(bytes: Uint8Array, dtype: string, where: string): Float32Array {
  // A copy is aligned, which a view into a file need not be.
  const aligned = bytes.byteOffset % 8 === 0 ? bytes : bytes.slice();
  const { buffer, byteOffset, byteLength } = aligned;
  switch (dtype) {
    case 'F32':
      return new Float32Array(buffer, byteOffset, byteLength / 4);
    case 'F16':
      return float16ToFloat32(new Uint16Array(buffer, byteOffset, byteLength / 2));
    case 'BF16':
      return bfloat16ToFloat32(new Uint16Array(buffer, byteOffset, byteLength / 2));
    case 'F64':
      return Float32Array.from(new Float64Array(buffer, byteOffset, byteLength / 8));
    default:
      throw new CheckpointError('checkpoint/dtype', `${where} is ${dtype}, not a floating-point type`, { where });
  }
}
