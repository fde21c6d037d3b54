import { onnx } from '../generated/onnx.js';
import type { Rope } from './rope.ts';
import { MemoryTensor, type StoredTensor } from './tensor.ts';
import { encodeHead } from './wire.ts';

const RAW_DATA = 9;

/** Where a writer puts a tensor's data: the tensor's content, or undefined to leave it as it is. */
export type Placing = (tensor: StoredTensor | MemoryTensor, isInitializer: boolean) => Rope | undefined;

/** A tensor's content as the writer wants it. */
export function placed(tensor: StoredTensor | MemoryTensor, place: Placing | undefined, isInitializer = false): Rope {
  return place?.(tensor, isInitializer) ?? (tensor instanceof MemoryTensor ? inlined(tensor) : tensor.message.rope());
}

/** Its data in `raw_data`. */
export function inlined(tensor: StoredTensor | MemoryTensor): Rope {
  return tensor.headRope().add(encodeHead(RAW_DATA, tensor.byteLength)).addRope(tensor.dataRope());
}

/** Its data in a file beside the model. */
export function outside(tensor: StoredTensor | MemoryTensor, place: { location: string; offset: number }): Rope {
  const entries = { location: place.location, offset: String(place.offset), length: String(tensor.byteLength) };
  const where = onnx.TensorProto.encode({
    externalData: Object.entries(entries).map(([key, value]) => ({ key, value })),
    dataLocation: onnx.TensorProto.DataLocation.EXTERNAL,
  }).finish();
  return tensor.headRope().add(where);
}
