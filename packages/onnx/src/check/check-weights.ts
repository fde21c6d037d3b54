import { OnnxError } from '../errors.ts';
import type { MemoryTensor, StoredTensor } from '../tensor.ts';

/** A multiple of every element's size. */
const chunkBytes = 1024 * 1024;

/** Reads the data piece by piece, so that a large tensor costs no memory. @throws {OnnxError} `onnx/not-finite` */
export function checkNotNan(tensor: StoredTensor | MemoryTensor, where: string): void {
  const isNan = nanTest(tensor.dtype);
  if (isNan === undefined) return;
  let index = 0;
  for (const chunk of tensor.dataRope().chunks(chunkBytes)) {
    const view = chunk.byteOffset % 8 === 0 ? chunk : chunk.slice();
    const found = isNan(view.buffer, view.byteOffset, view.byteLength);
    if (found >= 0)
      throw new OnnxError('onnx/not-finite', `"${where}" has a NaN at element ${index + found}`, {
        where,
        hint: 'export the model again, or allow NaN',
      });
    index += Math.floor(chunk.length / (tensor.byteLength / elements(tensor.dims)));
  }
}

function elements(dims: readonly number[]): number {
  return dims.reduce((product, dim) => product * dim, 1);
}

type NanTest = (buffer: ArrayBufferLike, offset: number, length: number) => number;

/** The index of the first NaN, or −1. */
function nanTest(dtype: string): NanTest | undefined {
  switch (dtype) {
    case 'float32':
      return (buffer, offset, length) => new Float32Array(buffer, offset, length / 4).findIndex(Number.isNaN);
    case 'float64':
      return (buffer, offset, length) => new Float64Array(buffer, offset, length / 8).findIndex(Number.isNaN);
    case 'float16':
      return (buffer, offset, length) =>
        new Uint16Array(buffer, offset, length / 2).findIndex((bits) => (bits & 0x7fff) > 0x7c00);
    case 'bfloat16':
      return (buffer, offset, length) =>
        new Uint16Array(buffer, offset, length / 2).findIndex((bits) => (bits & 0x7fff) > 0x7f80);
    default:
      return undefined;
  }
}
