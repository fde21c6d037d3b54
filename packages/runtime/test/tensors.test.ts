import { expect, test } from 'vitest';
import { fromOrt, type OrtTensorClass, toOrt } from '../src/tensors.ts';

/** As onnxruntime-common makes them where there is a Float16Array: the bits are no longer what `data` says they are. */
class TensorOfNode24 {
  readonly type: string;
  readonly dims: readonly number[];

  constructor(type: string, _data: unknown, dims: readonly number[]) {
    this.type = type;
    this.dims = dims;
  }

  get data(): unknown {
    return { buffer: new ArrayBuffer(0), byteOffset: 0, length: 0 };
  }
}

test('float16 goes in as bits and comes out as bits, Float16Array or not', () => {
  const half = { dtype: 'float16', dims: [2], data: Uint16Array.of(0x3c00, 0xbc00) } as const;
  const tensor = toOrt(TensorOfNode24 as unknown as OrtTensorClass, half);
  expect(tensor.data).toBe(half.data);
  expect(fromOrt(tensor)).toEqual(half);
});
