import { type NewTensor, tensorFromFloats } from '@flotilla/onnx';
import { pairSafeScale, quantizeInt8 } from '@flotilla/quant';
import { dequantize, type QuantizedConstant } from './quantized-constant.ts';

/** A matrix as `com.microsoft.DynamicQuantizeMatMul` wants it: int8 `[K, N]`, one scale per column, zero point 0. */
export interface DynamicInt8Weight {
  readonly q: NewTensor;
  readonly scale: NewTensor;
}

/**
 * Rounds a 4-bit weight anew to 8 bits per column: half a step of max|w| / 127, against the block's own step of about
 * max|w| / 8 that it already has. An int8 weight per column comes out as it went in.
 * @param transposed the weight is `[N, K]`
 * @param pairSafe scales leave room for sums of 16 bits
 */
export function dynamicInt8Weight(
  constant: QuantizedConstant,
  transposed: boolean,
  pairSafe = false,
): DynamicInt8Weight {
  const [rows = 0, columns = 0] = constant.tensor.dims;
  const [k, n] = transposed ? [columns, rows] : [rows, columns];
  const floats = dequantize(constant);
  const w = transposed ? transpose(floats, n, k) : floats;
  const leastScale = pairSafe ? pairSafeScale(w, n, { channelsLast: true }) : undefined;
  const { q, scale } = quantizeInt8(w, n, { inner: 1, leastScale });
  return {
    q: { dtype: 'int8', dims: [k, n], bytes: new Uint8Array(q.buffer, q.byteOffset, q.byteLength) },
    scale: tensorFromFloats([n], scale),
  };
}

function transpose(w: Float32Array, rows: number, columns: number): Float32Array {
  const turned = new Float32Array(w.length);
  for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) turned[c * rows + r] = w[r * columns + c] ?? 0;
  return turned;
}
