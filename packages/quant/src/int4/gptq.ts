import { QuantError } from '../errors.ts';
import { walkColumns } from '../linalg/error-spread.ts';
import type { HessianFactor } from '../linalg/hessian.ts';
import { roundHalfEven } from '../int8/round.ts';
import { descend } from './descend.ts';
import { packNibbles } from './nibbles.ts';
import type { Int4Blocks } from './quantize.ts';
import { findBlocks } from './search.ts';

export interface GptqOptions {
  readonly rows: number;
  readonly cols: number;
  /** Weights that share a scale. */
  readonly block: number;
  readonly symmetric?: boolean | undefined;
  /** How each block's grid is found before the walk, as `quantizeInt4` has it. Default 'mse'. */
  readonly clip?: 'none' | 'mse' | 'hqq' | undefined;
  /** Scales that bfloat16 holds exactly. Default false. */
  readonly bf16Scales?: boolean | undefined;
  /** Rounds of coordinate descent behind the walk, see `descend`. Default 0. */
  readonly sweeps?: number | undefined;
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
  const { rows, cols, block, symmetric = false, bf16Scales = false, sweeps = 0 } = options;
  if (w.length !== rows * cols || factor.cols !== cols || !(block >= 1)) {
    throw new QuantError('quant/shape', `${w.length} weights, a Hessian of ${factor.cols}, for ${rows} × ${cols}`);
  }
  const { clip = 'mse' } = options;
  const search = { symmetric, clip, bf16: bf16Scales, importance: factor.energy, levels: false };
  const grids = findBlocks(w, { rows, cols, inner: 1, block }, search);
  const perRow = Math.ceil(cols / block);
  const lowest = symmetric ? -8 : 0;
  const levels = new Int8Array(w.length);
  const work = permutedColumns(w, order, rows);
  walkColumns(work, { upper, rows, cols }, (i, start, error, at) => {
    const column = order[i];
    const pivot = upper[i * cols + i];
    for (let r = 0; r < rows; r++) {
      const grid = r * perRow + Math.floor(column / block);
      const scale = grids.scale[grid];
      const zero = grids.zeroPoint[grid];
      const value = work[start + r];
      const level = Math.max(lowest, Math.min(lowest + 15, roundHalfEven(value / scale) + zero));
      levels[r * cols + column] = level;
      error[at + r] = (value - (level - zero) * scale) / pivot;
    }
  });
  const made = { levels, scale: grids.scale, zeroPoint: grids.zeroPoint };
  const descent = { rows, cols, block, lowest, bf16: bf16Scales, sweeps };
  if (sweeps > 0) descend(w, made, factor.hessian, descent);
  const zeroPoint = symmetric ? undefined : packNibbles(grids.zeroPoint);
  return { q: packNibbles(levels), scale: grids.scale, zeroPoint };
}

/** `[cols, rows]` in processing order: the inner loops then run along memory. */
function permutedColumns(w: Float32Array, order: readonly number[], rows: number): Float64Array {
  const cols = order.length;
  const result = new Float64Array(w.length);
  for (let i = 0; i < cols; i++) for (let r = 0; r < rows; r++) result[i * rows + r] = w[r * cols + order[i]];
  return result;
}
