import { QuantError } from '../errors.ts';
import { inverseCholesky } from './cholesky.ts';

/** What GPTQ needs of a Hessian; layers that read the same values share it. */
export interface HessianFactor {
  readonly cols: number;
  /** Columns by falling activation energy. */
  readonly order: readonly number[];
  /** Upper triangle U in that order, `UᵀU = (H + damping)⁻¹`, row-major `[cols, cols]`. */
  readonly upper: Float64Array;
  /** The Hessian's diagonal, damped, in the columns' own order: what an error in each costs. */
  readonly energy: Float64Array;
  /** Damped, in the columns' own order, row-major `[cols, cols]`. */
  readonly hessian: Float64Array;
}

/**
 * Orders, damps, inverts and factors a Hessian: cubic in `cols`.
 * @param hessian `Σ x·xᵀ` over calibration data, row-major `[cols, cols]`
 * @param damp added to the diagonal, as a share of its mean; default 0.01, the paper's
 * @throws {QuantError} `quant/shape`; `quant/not-finite` if the Hessian has NaN or is not positive
 */
export function factorHessian(hessian: Float64Array, cols: number, damp = 0.01): HessianFactor {
  if (hessian.length !== cols * cols) throw new QuantError('quant/shape', `${hessian.length} in a Hessian of ${cols}`);
  const order = Array.from({ length: cols }, (_, i) => i).sort(
    (a, b) => hessian[b * cols + b] - hessian[a * cols + a] || a - b,
  );
  const steady = damped(hessian, order, damp);
  const upper = inverseCholesky(steady, cols);
  if (!upper) throw new QuantError('quant/not-finite', 'the Hessian is not positive definite');
  const own = new Float64Array(cols * cols);
  for (let i = 0; i < cols; i++) {
    for (let j = 0; j < cols; j++) own[order[i] * cols + order[j]] = steady[i * cols + j];
  }
  const energy = Float64Array.from({ length: cols }, (_, i) => own[i * cols + i]);
  return { cols, order, upper, energy, hessian: own };
}

/** In processing order; inputs that were always 0 get the mean energy, so that their weights are merely rounded. */
function damped(hessian: Float64Array, order: readonly number[], damp: number): Float64Array {
  const n = order.length;
  let trace = 0;
  for (let i = 0; i < n; i++) trace += hessian[i * n + i];
  if (!(trace >= 0 && trace < Infinity))
    throw new QuantError('quant/not-finite', `the Hessian's mean diagonal is ${trace / n}`);
  const mean = trace / n || 1; // a layer that only ever saw zeros
  const result = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) result[i * n + j] = hessian[order[i] * n + order[j]];
    const own = result[i * n + i];
    result[i * n + i] = (own > 0 ? own : mean) + damp * mean;
  }
  return result;
}
