import { QuantError } from '../errors.ts';
import { walkColumns } from '../linalg/error-spread.ts';
import { factorHessian } from '../linalg/hessian.ts';
import { roundHalfEven } from './round.ts';

export interface FeedbackOptions {
  /** Largest |q|. Default 127. */
  readonly most?: number | undefined;
  /** Largest |qₐ + q_b| of neighbours (see `pairSafeScale`); none by default. */
  readonly pairMost?: number | undefined;
  /** Added to the diagonal, as a share of its mean. Default 0.01. */
  readonly damping?: number | undefined;
}

/**
 * Rounds the rows of a matrix so that what rounding one weight adds to the product, the weights not yet rounded take out
 * again, as far as their inputs go together: GPTQ with one scale per row, largest inputs first. Nothing is reordered in
 * the result.
 * @param w `[rows, depth]`
 * @param scale `[rows]`
 * @param gram `[depth, depth]`, Σ x·xᵀ over the inputs of the layer; not changed
 * @returns int8 `[rows, depth]`
 * @throws {QuantError} `quant/shape`; `quant/not-finite` where `gram` is not
 * @see Frantar et al., "GPTQ" (2023), algorithm 1: errors spread by the Cholesky factor of the inverse Hessian
 */
export function roundWithFeedback(
  w: Float32Array,
  scale: Float32Array,
  gram: Float64Array,
  options: FeedbackOptions = {},
): Int8Array {
  const { most = 127, pairMost, damping = 0.01 } = options;
  const rows = scale.length;
  const depth = w.length / rows;
  if (gram.length !== depth * depth)
    throw new QuantError('quant/shape', `a Gram matrix of ${gram.length} for ${depth} inputs`);
  const { order, upper: spread } = factorHessian(gram, depth, damping);
  // Inputs in order, rows innermost: the loop that spreads errors then runs along memory.
  const rest = new Float64Array(w.length);
  for (let i = 0; i < depth; i++)
    for (let row = 0; row < rows; row++) rest[i * rows + row] = w[row * depth + order[i]] / scale[row];
  const q = new Int8Array(w.length);
  const done = new Uint8Array(depth);
  walkColumns(rest, { upper: spread, rows, cols: depth }, (i, start, error, at) => {
    const k = order[i];
    const neighbours = pairMost === undefined ? [] : [k - 1, k + 1].filter((j) => j >= 0 && j < depth && done[j] === 1);
    const pivot = spread[i * depth + i];
    for (let row = 0; row < rows; row++) {
      let [low, high] = [-most, most];
      for (const j of neighbours) {
        low = Math.max(low, -(pairMost ?? 0) - q[row * depth + j]);
        high = Math.min(high, (pairMost ?? 0) - q[row * depth + j]);
      }
      const exact = rest[start + row];
      const value = Math.max(low, Math.min(high, roundHalfEven(exact)));
      q[row * depth + k] = value;
      error[at + row] = (exact - value) / pivot;
    }
    done[k] = 1;
  });
  return q;
}
