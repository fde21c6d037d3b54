import { QuantError } from '../errors.ts';
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
  const q = new Int8Array(w.length);
  const rest = new Float64Array(depth);
  const done = new Uint8Array(depth);
  for (let row = 0; row < rows; row++) {
    const start = row * depth;
    const step = scale[row];
    for (let i = 0; i < depth; i++) rest[i] = w[start + order[i]] / step;
    done.fill(0);
    for (let i = 0; i < depth; i++) {
      const k = order[i];
      let [low, high] = [-most, most];
      if (pairMost !== undefined) {
        for (const j of [k - 1, k + 1]) {
          if (j < 0 || j >= depth || done[j] === 0) continue;
          low = Math.max(low, -pairMost - q[start + j]);
          high = Math.min(high, pairMost - q[start + j]);
        }
      }
      const value = Math.max(low, Math.min(high, roundHalfEven(rest[i])));
      q[start + k] = value;
      done[k] = 1;
      const error = (rest[i] - value) / spread[i * depth + i];
      for (let j = i + 1; j < depth; j++) rest[j] -= error * spread[i * depth + j];
    }
  }
  return q;
}
