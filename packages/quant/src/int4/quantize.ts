import { QuantError } from '../errors.ts';
import { finite, prepareBlocks } from './block-kernel.ts';
import { findBlocks } from './search.ts';

export interface Int4Options {
  /** Rows, the axes before the blocked one multiplied together. */
  readonly rows: number;
  /** Length of the blocked axis. The last block of a row may be short. */
  readonly cols: number;
  /** The axes after the blocked one multiplied together: 1 for `[N, K]`, N for a MatMul's `[K, N]` with 1 row. Default 1. */
  readonly inner?: number | undefined;
  /** Weights that share a scale. */
  readonly block: number;
  /** int4 in −8…7 without a zero point, instead of uint4 with one. Default false. */
  readonly symmetric?: boolean | undefined;
  /**
   * 'mse' searches each block's range for the least squared error, 'hqq' for the least error to the power of 0.7; 'none'
   * takes all of it. Default 'mse'.
   */
  readonly clip?: 'none' | 'mse' | 'hqq' | undefined;
  /** `[cols]`, none negative: what a squared error in each column costs, for 'mse'. Default: all the same. */
  readonly importance?: Float64Array | undefined;
  /** Scales that bfloat16 holds exactly, levels rounded to those. Default false. */
  readonly bf16Scales?: boolean | undefined;
}

export interface Int4Blocks {
  /** `[rows, cols, inner]`, packed by `packNibbles`: uint4, or int4 where symmetric. */
  readonly q: Uint8Array;
  /** `[rows, ceil(cols / block), inner]`, in the unit of the weights; 1 where a block is all zero. */
  readonly scale: Float32Array;
  /** uint4 in the shape of `scale`, packed; undefined where symmetric. */
  readonly zeroPoint: Uint8Array | undefined;
}

/**
 * Blockwise 4-bit round-to-nearest: `w ≈ (q − zeroPoint) · scale` with one scale (and zero point) per block.
 * Zero is always on the grid, so that padding and pruned weights stay exact. Ties go to even, as in ONNX QuantizeLinear-21.
 * @param w weights, row-major `[rows, cols, inner]`, blocked along `cols`
 * @throws {QuantError} `quant/shape` if the sizes do not multiply to `w.length` or the block is not a positive integer;
 *   `quant/not-finite` naming the first index that is NaN or infinite
 */
export function quantizeInt4(w: Float32Array, asked: Int4Options): Int4Blocks {
  const { rows, cols, inner = 1, block, symmetric = false, clip = 'mse', importance, bf16Scales = false } = asked;
  countBlocks(w.length, asked);
  if (importance && importance.length !== cols)
    throw new QuantError('quant/shape', `${importance.length} importances for ${cols} columns`);
  const sizes = { rows, cols, inner, block };
  const options = { symmetric, clip, bf16: bf16Scales, importance, levels: true, packed: true };
  const { levels: q, scale, zeroPoint } = findBlocks(w, sizes, options);
  return { q, scale, zeroPoint: symmetric ? undefined : zeroPoint };
}

/**
 * The same for weights that are not in memory yet: room for them where the kernel works, and what becomes of them once they
 * are there. What `run` gives are views; the next weights that are prepared or quantized write over them and over `w`.
 */
export function prepareInt4(options: Int4Options & { readonly clip: 'none' | 'mse' }): {
  readonly w: Float32Array;
  readonly run: () => Int4Blocks;
} {
  const { rows, cols, inner = 1, block, symmetric = false, clip, importance, bf16Scales: bf16 = false } = options;
  countBlocks(rows * cols * inner, options);
  const sizes = { rows, cols, inner, block };
  const search = clip === 'mse';
  const kernel = { symmetric, search, bf16, importance, levels: true, packed: true };
  const { w, run } = prepareBlocks(sizes, kernel);
  return {
    w,
    run() {
      const { levels: q, scale, zeroPoint } = finite(run(), w, 0);
      return { q, scale, zeroPoint: symmetric ? undefined : zeroPoint };
    },
  };
}

/**
 * `(q − zeroPoint) · scale`, in float32, as ONNX DequantizeLinear-21 computes it.
 * @param blocks as `quantizeInt4` returns them
 * @param options the same sizes that they were made with
 */
export function dequantizeInt4(blocks: Int4Blocks, options: Int4Options): Float32Array {
  const { rows, cols, inner = 1, block } = options;
  const w = new Float32Array(rows * cols * inner);
  const perRow = countBlocks(w.length, options);
  if (blocks.scale.length !== rows * perRow * inner || blocks.q.length !== (w.length + 1) >> 1) {
    throw new QuantError(
      'quant/shape',
      `${blocks.q.length} bytes and ${blocks.scale.length} scales for ${w.length} weights`,
    );
  }
  const zero = blocks.zeroPoint;
  for (let at = 0; at < w.length; at++) {
    const row = Math.floor(at / (cols * inner));
    const col = Math.floor(at / inner) % cols;
    const b = (row * perRow + Math.floor(col / block)) * inner + (at % inner);
    const nibble = (blocks.q[at >> 1] >> ((at & 1) << 2)) & 15;
    const value = zero ? nibble - ((zero[b >> 1] >> ((b & 1) << 2)) & 15) : (nibble << 28) >> 28;
    w[at] = value * blocks.scale[b];
  }
  return w;
}

function countBlocks(length: number, { rows, cols, inner = 1, block }: Int4Options): number {
  if (!Number.isInteger(block) || block < 1) throw new QuantError('quant/shape', `block length ${block}`);
  if (rows * cols * inner !== length) {
    throw new QuantError('quant/shape', `${length} weights are not ${rows} × ${cols} × ${inner}`);
  }
  return Math.ceil(cols / block);
}
