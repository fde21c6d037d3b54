import {
  factorHessian,
  gptqInt4,
  type Int4Blocks,
  packNibbles,
  quantizeInt4,
  shiftWeights,
  unpackNibbles,
} from '@flotilla/quant';

export interface BlockOptions {
  readonly rows: number;
  readonly cols: number;
  readonly inner: number;
  readonly block: number;
  readonly symmetric: boolean;
  readonly clip: 'mse' | 'none' | 'hqq';
  readonly bf16Scales: boolean;
  /** `Σ x·xᵀ` of the layer's input, along which GPTQ walks; undefined: round to nearest. */
  readonly hessian: Float64Array | undefined;
  /** `[cols]`: what an error in each column costs; undefined: all the same. GPTQ takes it from the Hessian. */
  readonly importance: Float64Array | undefined;
  /** `Σ (x − x̂)·x̂ᵀ`, `[cols, cols]`: GPTQ makes up for what the input has lost; see `shiftWeights`. */
  readonly cross: Float64Array | undefined;
  /** Rounds of coordinate descent behind GPTQ's walk. */
  readonly sweeps: number;
}

/** A weight's blocks, in ONNX's layout `[rows, cols, inner]`. */
export function blocksOf(w: Float32Array, options: BlockOptions): Int4Blocks {
  return options.hessian ? gptqBlocks(w, options, options.hessian) : quantizeInt4(w, options);
}

/** The energy of each input. One that was always 0 counts a thousandth of the mean, so that its weights do not run wild. */
export function diagonal(hessian: Float64Array, cols: number): Float64Array {
  const energy = Float64Array.from({ length: cols }, (_, i) => hessian[i * cols + i] ?? 0);
  const mean = energy.reduce((sum, value) => sum + value, 0) / cols || 1;
  return energy.map((value) => value + mean / 1000);
}

/**
 * GPTQ works on matrices `[outputs, cols]`. A MatMul's weight `[cols, outputs]` is one, turned; a convolution's is one
 * per kernel position, each with the same inputs but for the border.
 */
function gptqBlocks(w: Float32Array, options: BlockOptions, hessian: Float64Array): Int4Blocks {
  const { rows, cols, inner, block, symmetric, clip, bf16Scales, cross, sweeps } = options;
  const perRow = Math.ceil(cols / block);
  const q = new Uint8Array(w.length);
  const scale = new Float32Array(rows * perRow * inner);
  const zeroPoint = new Uint8Array(scale.length);
  const factor = factorHessian(hessian, cols);
  for (const { outputs, at } of matrices(rows, inner)) {
    const given = new Float32Array(outputs * cols);
    for (let o = 0; o < outputs; o++) {
      for (let k = 0; k < cols; k++) given[o * cols + k] = w[at(o, k, cols)] ?? 0;
    }
    const matrix = cross ? shiftWeights(given, factor, cross) : given;
    const made = gptqInt4(matrix, factor, { rows: outputs, cols, block, symmetric, clip, bf16Scales, sweeps });
    const levels = unpackNibbles(made.q, matrix.length);
    const zeros = made.zeroPoint && unpackNibbles(made.zeroPoint, outputs * perRow);
    for (let o = 0; o < outputs; o++) {
      for (let k = 0; k < cols; k++) q[at(o, k, cols)] = levels[o * cols + k] ?? 0;
      for (let b = 0; b < perRow; b++) {
        scale[at(o, b, perRow)] = made.scale[o * perRow + b] ?? 1;
        zeroPoint[at(o, b, perRow)] = zeros?.[o * perRow + b] ?? 0;
      }
    }
  }
  return { q: packNibbles(q), scale, zeroPoint: symmetric ? undefined : packNibbles(zeroPoint) };
}

interface Matrix {
  readonly outputs: number;
  /** Index of output o, column k in `[rows, of, inner]`. */
  readonly at: (o: number, k: number, of: number) => number;
}

function matrices(rows: number, inner: number): readonly Matrix[] {
  if (rows === 1) return [{ outputs: inner, at: (o, k) => k * inner + o }];
  return Array.from({ length: inner }, (_, p) => ({
    outputs: rows,
    at: (o: number, k: number, of: number) => (o * of + k) * inner + p,
  }));
}

/** A last block that is cut short keeps ARM's fast kernels away: rather a shorter block that divides the axis. */
export function blockFor(cols: number, block: number): number {
  for (let shorter = block; shorter >= Math.max(16, block / 4); shorter /= 2) {
    if (cols % shorter === 0) return shorter;
  }
  return block;
}
