import { QuantError } from '../errors.ts';
import { inverseCholesky } from '../linalg/cholesky.ts';
import { roundHalfEven } from '../int8/round.ts';
import { packNibbles } from './nibbles.ts';
import type { Int4Blocks } from './quantize.ts';
import { asymmetricGrid, type BlockGrid, symmetricGrid } from './search.ts';

export interface GptqOptions {
  readonly rows: number;
  readonly cols: number;
  /** Weights that share a scale. */
  readonly block: number;
  readonly symmetric?: boolean | undefined;
}

/** What GPTQ needs of a Hessian; layers that read the same values share it. */
export interface HessianFactor {
  readonly cols: number;
  /** Columns by falling activation energy. */
  readonly order: readonly number[];
  /** Upper triangle U in that order, `UᵀU = (H + damping)⁻¹`, row-major `[cols, cols]`. */
  readonly upper: Float64Array;
}

/**
 * Orders, damps, inverts and factors a Hessian: cubic in `cols`.
 * @param hessian `Σ x·xᵀ` over calibration data, row-major `[cols, cols]`
 * @param damp added to the diagonal, as a share of its mean; default 0.01, the paper's
 * @throws {QuantError} `quant/shape`; `quant/not-finite` if the Hessian has NaN or no energy at all
 */
export function factorHessian(hessian: Float64Array, cols: number, damp = 0.01): HessianFactor {
  if (hessian.length !== cols * cols) throw new QuantError('quant/shape', `${hessian.length} in a Hessian of ${cols}`);
  const order = Array.from({ length: cols }, (_, i) => i).sort(
    (a, b) => hessian[b * cols + b] - hessian[a * cols + a] || a - b,
  );
  const upper = inverseCholesky(damped(hessian, order, damp), cols);
  if (!upper) throw new QuantError('quant/not-finite', 'the Hessian is not positive definite');
  return { cols, order, upper };
}

/**
 * Blockwise 4-bit that minimises the error of the layer's output on calibration data, not of the weights: columns are
 * rounded one by one, each column's error is passed on to those not yet rounded. Blocks' grids are fixed beforehand and
 * columns go in order of falling activation energy, so that order leaves no trace in the result (no `g_idx`).
 * @param w weights, row-major `[rows, cols]`; the layer computes `w · x`
 * @returns as `quantizeInt4` with `inner` 1
 * @throws {QuantError} `quant/shape`; `quant/not-finite`
 * @see Frantar et al. 2022, GPTQ, algorithm 1 and §3.3; act-order with static groups as in its reference code
 */
export function gptqInt4(
  w: Float32Array,
  { order, upper, ...factor }: HessianFactor,
  options: GptqOptions,
): Int4Blocks {
  const { rows, cols, block, symmetric = false } = options;
  if (w.length !== rows * cols || factor.cols !== cols || !(block >= 1)) {
    throw new QuantError('quant/shape', `${w.length} weights, a Hessian of ${factor.cols}, for ${rows} × ${cols}`);
  }
  const grids = blockGrids(w, options);
  const lowest = symmetric ? -8 : 0;
  const q = new Uint8Array(w.length);
  const work = permutedColumns(w, order, rows);
  const error = new Float64Array(rows);
  for (let i = 0; i < cols; i++) {
    const column = order[i];
    for (let r = 0; r < rows; r++) {
      const at = r * grids.perRow + Math.floor(column / block);
      const scale = grids.scale[at];
      const zero = grids.zeroPoint[at];
      const value = work[i * rows + r];
      const level = Math.max(lowest, Math.min(lowest + 15, roundHalfEven(value / scale) + zero));
      q[r * cols + column] = level;
      error[r] = (value - (level - zero) * scale) / upper[i * cols + i];
    }
    for (let j = i + 1; j < cols; j++) {
      const factor = upper[i * cols + j];
      for (let r = 0; r < rows; r++) work[j * rows + r] -= error[r] * factor;
    }
  }
  const zeroPoint = symmetric ? undefined : packNibbles(grids.zeroPoint);
  return { q: packNibbles(q), scale: grids.scale, zeroPoint };
}

/** In processing order; inputs that were always 0 get the mean energy, so that their weights are merely rounded. */
function damped(hessian: Float64Array, order: readonly number[], damp: number): Float64Array {
  const n = order.length;
  let trace = 0;
  for (let i = 0; i < n; i++) trace += hessian[i * n + i];
  const mean = trace / n;
  if (!(mean > 0 && mean < Infinity))
    throw new QuantError('quant/not-finite', `the Hessian's mean diagonal is ${mean}`);
  const result = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) result[i * n + j] = hessian[order[i] * n + order[j]];
    const own = result[i * n + i];
    result[i * n + i] = (own > 0 ? own : mean) + damp * mean;
  }
  return result;
}

interface Grids {
  readonly perRow: number;
  readonly scale: Float32Array;
  readonly zeroPoint: Uint8Array;
}

function blockGrids(w: Float32Array, { rows, cols, block, symmetric = false }: GptqOptions): Grids {
  const perRow = Math.ceil(cols / block);
  const scale = new Float32Array(rows * perRow);
  const zeroPoint = new Uint8Array(scale.length);
  const values = new Float64Array(block);
  const grid: BlockGrid = { scale: 1, zeroPoint: 0 };
  for (let r = 0; r < rows; r++) {
    for (let b = 0; b < perRow; b++) {
      const count = Math.min(block, cols - b * block);
      for (let k = 0; k < count; k++) {
        values[k] = w[r * cols + b * block + k];
        if (!Number.isFinite(values[k])) throw new QuantError('quant/not-finite', `weight ${r * cols + b * block + k}`);
      }
      (symmetric ? symmetricGrid : asymmetricGrid)(values, count, true, grid);
      scale[r * perRow + b] = grid.scale;
      zeroPoint[r * perRow + b] = grid.zeroPoint;
    }
  }
  return { perRow, scale, zeroPoint };
}

/** `[cols, rows]` in processing order: the inner loops then run along memory. */
function permutedColumns(w: Float32Array, order: readonly number[], rows: number): Float64Array {
  const cols = order.length;
  const result = new Float64Array(w.length);
  for (let i = 0; i < cols; i++) for (let r = 0; r < rows; r++) result[i * rows + r] = w[r * cols + order[i]];
  return result;
}
