import { svd } from '../linalg/svd.ts';
import { type LoraFactors, loraDelta } from './delta.ts';
import { QuantError } from '../errors.ts';

/** Two factors whose product is all there is: the scale is in B. */
export interface Compressed {
  /** Row-major `[rank, inFeatures]`, orthonormal rows. */
  readonly a: Float32Array;
  /** Row-major `[outFeatures, rank]`. */
  readonly b: Float32Array;
  readonly rank: number;
}

/**
 * The best approximation of rank `rank` (in the sum of squares) to a matrix.
 * @param delta row-major `[outFeatures, inFeatures]`
 * @see Eckart & Young 1936
 */
export function compressDelta(delta: Float32Array, outFeatures: number, inFeatures: number, rank: number): Compressed {
  const { u, s, vt } = svd(delta, outFeatures, inFeatures, rank);
  return { a: Float32Array.from(vt), b: u.length === 0 ? new Float32Array(0) : scaled(u, s), rank: s.length };
}

/**
 * The same of a sum of low-rank products, by way of a matrix no larger than the ranks together: the sum itself, which
 * may have millions of elements, is never decomposed.
 * @throws {QuantError} `quant/shape` where the factors are of different layers
 */
export function compressSum(factors: readonly LoraFactors[], rank: number): Compressed {
  const [{ inFeatures, outFeatures }] = factors;
  if (factors.some((other) => other.inFeatures !== inFeatures || other.outFeatures !== outFeatures))
    throw new QuantError('quant/shape', 'factors of different shapes');
  const total = factors.reduce((sum, factor) => sum + factor.rank, 0);
  if (total >= Math.min(inFeatures, outFeatures))
    return compressDelta(denseSum(factors), outFeatures, inFeatures, rank);
  const left = svd(sideBySide(factors, outFeatures, total), outFeatures, total, total);
  const right = svd(stacked(factors), total, inFeatures, total);
  // sum = (Ul Sl Vl)(Ur Sr Vr): only the middle Sl Vl Ur Sr is decomposed.
  const middle = new Float64Array(total * total);
  for (let i = 0; i < total; i++) {
    for (let j = 0; j < total; j++) {
      let sum = 0;
      for (let k = 0; k < total; k++) sum += left.vt[i * total + k] * right.u[k * total + j];
      middle[i * total + j] = left.s[i] * sum * right.s[j];
    }
  }
  const core = svd(middle, total, total, rank);
  const kept = core.s.length;
  const u = multiply(left.u, core.u, outFeatures, total, kept);
  return {
    a: Float32Array.from(multiply(core.vt, right.vt, kept, total, inFeatures)),
    b: scaled(u, core.s),
    rank: kept,
  };
}

function denseSum(factors: readonly LoraFactors[]): Float32Array {
  const [sum, ...others] = factors.map(loraDelta);
  for (const other of others) for (let i = 0; i < sum.length; i++) sum[i] += other[i];
  return sum;
}

/** All B, scaled, as columns: `[outFeatures, total]`. */
function sideBySide(factors: readonly LoraFactors[], outFeatures: number, total: number): Float64Array {
  const all = new Float64Array(outFeatures * total);
  let begin = 0;
  for (const { b, rank, scale } of factors) {
    for (let o = 0; o < outFeatures; o++)
      for (let r = 0; r < rank; r++) all[o * total + begin + r] = b[o * rank + r] * scale;
    begin += rank;
  }
  return all;
}

/** All A as rows: `[total, inFeatures]`. */
function stacked(factors: readonly LoraFactors[]): Float64Array {
  const all = new Float64Array(factors.reduce((sum, { a }) => sum + a.length, 0));
  let begin = 0;
  for (const { a } of factors) {
    all.set(a, begin);
    begin += a.length;
  }
  return all;
}

function scaled(u: Float64Array, s: Float64Array): Float32Array {
  return Float32Array.from(u, (value, at) => value * s[at % s.length]);
}

/** `[n, m] · [m, p]`. */
function multiply(a: Float64Array, b: Float64Array, n: number, m: number, p: number): Float64Array {
  const product = new Float64Array(n * p);
  for (let i = 0; i < n; i++)
    for (let k = 0; k < m; k++) for (let j = 0; j < p; j++) product[i * p + j] += a[i * m + k] * b[k * p + j];
  return product;
}
