import { QuantError } from '../errors.ts';
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
  const order = Int32Array.from({ length: depth }, (_, k) => k).sort(
    (a, b) => gram[b * depth + b] - gram[a * depth + a] || a - b,
  );
  const spread = errorSpread(gram, order, damping);
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

/** Upper Cholesky factor of the inverse of the damped Gram matrix, rows and columns in the given order. */
function errorSpread(gram: Float64Array, order: Int32Array, damping: number): Float64Array {
  const n = order.length;
  let trace = 0;
  for (let i = 0; i < n; i++) trace += gram[i * n + i];
  if (!Number.isFinite(trace)) throw new QuantError('quant/not-finite', 'the Gram matrix is not finite');
  // Inputs that are always 0 have no say; any positive diagonal will do for them.
  const extra = (trace / n) * damping || 1;
  const damped = new Float64Array(n * n);
  for (let i = 0; i < n; i++)
    for (let j = 0; j < n; j++) damped[i * n + j] = gram[order[i] * n + order[j]] + (i === j ? extra : 0);
  const lower = cholesky(inverse(cholesky(damped, n), n), n);
  const upper = new Float64Array(n * n);
  for (let i = 0; i < n; i++) for (let j = i; j < n; j++) upper[i * n + j] = lower[j * n + i];
  return upper;
}

/** Lower L with A = L·Lᵀ. */
function cholesky(a: Float64Array, n: number): Float64Array {
  const l = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = a[i * n + j];
      for (let k = 0; k < j; k++) sum -= l[i * n + k] * l[j * n + k];
      l[i * n + j] = i === j ? Math.sqrt(Math.max(sum, 1e-30)) : sum / l[j * n + j];
    }
  }
  return l;
}

/** (L·Lᵀ)⁻¹ = L⁻ᵀ·L⁻¹. */
function inverse(l: Float64Array, n: number): Float64Array {
  // Rows of `t` are the columns of L⁻¹, so that the products below run along memory.
  const t = new Float64Array(n * n);
  for (let c = 0; c < n; c++) {
    t[c * n + c] = 1 / l[c * n + c];
    for (let i = c + 1; i < n; i++) {
      let sum = 0;
      for (let k = c; k < i; k++) sum -= l[i * n + k] * t[c * n + k];
      t[c * n + i] = sum / l[i * n + i];
    }
  }
  const result = new Float64Array(n * n);
  for (let i = 0; i < n; i++)
    for (let j = 0; j <= i; j++) {
      let sum = 0;
      for (let k = i; k < n; k++) sum += t[i * n + k] * t[j * n + k];
      result[i * n + j] = sum;
      result[j * n + i] = sum;
    }
  return result;
}
