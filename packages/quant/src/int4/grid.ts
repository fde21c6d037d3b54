import { bfloat16ToFloat32, float32ToBfloat16 } from '../half/half.ts';

/** Where a block's 16 levels lie: `(q − zeroPoint) · scale`. */
export interface BlockGrid {
  /** float32, positive. */
  scale: number;
  /** The level that stands for 0. */
  zeroPoint: number;
}

export interface GridOptions {
  /** int4 in −8…7 without a zero point, instead of uint4 in 0…15 with one. */
  readonly symmetric: boolean;
  /** Scales that bfloat16 holds exactly. */
  readonly bf16: boolean;
}

/** A block's weights, the first `count` of the array. */
export interface BlockValues {
  readonly values: Float64Array;
  readonly count: number;
}

/** A subnormal step would be flushed to 0 on some CPUs; such a block is stored as zeros. */
export const SMALLEST = 2 ** -126;

/** The largest float32, less what a rounded quotient may be over. */
export const LARGEST = (2 - 2 ** -22) * 2 ** 127;

/**
 * The whole range: uint4 from `min(w, 0)` to `max(w, 0)`, so that 0 is on the grid; int4 with max|w| on ±7, so that −w
 * quantizes to −q. A block of zeros gets scale 1.
 */
export function fullGrid({ values, count }: BlockValues, { symmetric, bf16 }: GridOptions, grid: BlockGrid): boolean {
  let low = 0;
  let high = 0;
  for (let i = 0; i < count; i++) {
    low = Math.min(low, values[i]);
    high = Math.max(high, values[i]);
  }
  if (symmetric) return setGrid(grid, Math.max(-low, high) / 7, 0, { outermost: 8, bf16 });
  const step = (high - low) / 15;
  const zeroPoint = Math.round(-low / step);
  return setGrid(grid, step, zeroPoint, { outermost: Math.max(zeroPoint, 15 - zeroPoint), bf16 });
}

/**
 * Sets the grid to the step in float32 (or bfloat16), held back where the outermost level would overflow. A step too small
 * to divide by gives 1 and 0, on which the block becomes zeros.
 * @returns whether the step could be used
 */
export function setGrid(
  grid: BlockGrid,
  step: number,
  zeroPoint: number,
  { outermost, bf16 }: { readonly outermost: number; readonly bf16: boolean },
): boolean {
  const scale = storedScale(Math.min(step, LARGEST / outermost), bf16);
  const usable = scale >= SMALLEST && scale * outermost < 2 ** 128;
  grid.scale = usable ? scale : 1;
  grid.zeroPoint = usable ? zeroPoint : 0;
  return usable;
}

/** The step as it is stored. */
export function storedScale(step: number, bf16: boolean): number {
  if (!bf16) return Math.fround(step);
  one[0] = step;
  return bfloat16ToFloat32(float32ToBfloat16(one))[0];
}

const one = new Float32Array(1);
