import { QuantError } from '../errors.ts';
import { roundHalfEven } from './round.ts';

const most = 2 ** 30;
const leastNormal = 1.2e-38;

/**
 * Bias in int32 at scale `inputScale · weightScale[c]`, as QLinearConv adds it to its sums.
 * @param weightScale `[channels]`, or one for all
 * @throws {QuantError} `quant/bias-overflow` where |q| > 2³⁰ (half of int32 stays free for the sums); see `leastWeightScale`
 */
export function quantizeBias(bias: Float32Array, inputScale: number, weightScale: Float32Array): Int32Array {
  const q = new Int32Array(bias.length);
  for (let c = 0; c < bias.length; c++) {
    const scale = biasScale(inputScale, weightScale[weightScale.length === 1 ? 0 : c]);
    const value = roundHalfEven(bias[c] / scale);
    if (!(Math.abs(value) <= most)) throw new QuantError('quant/bias-overflow', `bias ${c} is ${bias[c]} at ${scale}`);
    q[c] = value;
  }
  return q;
}

/** The scale of an int32 bias, in float32 as the kernels multiply it. */
export function biasScale(inputScale: number, weightScale: number): number {
  return Math.fround(inputScale * weightScale);
}

/** Per channel, the least weight scale at which the bias fits and its own scale is no subnormal: nearly dead rows need it. */
export function leastWeightScale(bias: Float32Array, inputScale: number): Float32Array {
  // A little above, since scales and their product are rounded to float32.
  return bias.map((value) => Math.max((Math.abs(value) / inputScale / most) * 1.000001, leastNormal / inputScale));
}
