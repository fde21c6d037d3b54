import { QuantError } from '../errors.ts';

/**
 * DoRA: gives each output's row of `weight` (base and low-rank part together) the length that was trained for it, in place.
 * @param weight row-major `[magnitude.length, size]`
 * @param magnitude lengths of the rows
 * @throws {QuantError} `quant/shape`; `quant/not-finite` where a row is zero and has no direction
 * @see Liu et al. 2024, DoRA, equation 5
 */
export function scaleToMagnitude(weight: Float32Array, magnitude: Float32Array): Float32Array {
  const size = weight.length / magnitude.length;
  if (!Number.isInteger(size))
    throw new QuantError('quant/shape', `${weight.length} weights in ${magnitude.length} rows`);
  for (let row = 0; row < magnitude.length; row++) {
    let squares = 0;
    for (let i = row * size; i < (row + 1) * size; i++) squares += weight[i] * weight[i];
    const factor = magnitude[row] / Math.sqrt(squares);
    if (!Number.isFinite(factor)) throw new QuantError('quant/not-finite', `DoRA: row ${row} of the weight is zero`);
    for (let i = row * size; i < (row + 1) * size; i++) weight[i] *= factor;
  }
  return weight;
}
