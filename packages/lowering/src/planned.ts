import { elementCount, FileSlice, type NewTensor, rawBytes, TensorInFile } from '@flotilla/onnx';
import { nBitsSizes, type NBitsWeight } from './nbits.ts';
import type { DynamicInt8Weight } from './dynamic-int8.ts';
import type { QuantizedConstant } from './quantized-constant.ts';

/** A constant that is not made: its type and shape are known, its bytes cannot be read. */
export function planned(dtype: NewTensor['dtype'], dims: readonly number[]): NewTensor {
  return new TensorInFile({ dtype, dims }, new FileSlice(UNMADE, 0, rawBytes(dtype, elementCount({ dims }))));
}

const UNMADE = {
  read: (): never => {
    throw new Error('a graph that was only planned has no such weights');
  },
};

/** As `nBitsWeight`. */
export function plannedNBits(constant: QuantizedConstant, transposed: boolean): NBitsWeight {
  const { q, scale, zeroPoint, ...sizes } = nBitsSizes(constant, transposed);
  return {
    ...sizes,
    q: planned('uint8', q),
    scale: planned('float32', scale),
    zeroPoint: zeroPoint && planned('uint8', zeroPoint),
  };
}

/** As `dynamicInt8Weight`. */
export function plannedInt8({ tensor }: QuantizedConstant, transposed: boolean): DynamicInt8Weight {
  const dims = transposed ? tensor.dims.toReversed() : tensor.dims;
  return { q: planned('int8', dims), scale: planned('float32', dims.slice(-1)) };
}
