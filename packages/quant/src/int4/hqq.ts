import { roundHalfEven } from '../int8/round.ts';
import { type BlockGrid, type BlockValues, type GridOptions, setGrid } from './grid.ts';

/** The paper's: norm, first weight of the quadratic term, its growth at each step, and the steps. */
const NORM = 0.7;
const BETA = 10;
const GROWTH = 1.01;
const STEPS = 20;

/**
 * Half-Quadratic Quantization: the grid with the least `Σ|w − ŵ|^0.7`, which forgives outliers what squares would not.
 * In turns: the error beyond a soft threshold is set aside as the outliers' (equation 7), then the grid is fitted to the
 * rest. The paper moves a real zero point at a fixed scale; ONNX Runtime's fast kernels take whole zero points only, so
 * here the scale is fitted by least squares too and the zero point goes to the nearest whole number. The best grid seen
 * is kept; the full range is where it starts.
 * @see Badri & Shaji 2023, Half-Quadratic Quantization of Large Machine Learning Models, equations 3 to 8
 */
export function hqqGrid(block: BlockValues, options: GridOptions, grid: BlockGrid): void {
  const { values, count } = block;
  const { symmetric, bf16 } = options;
  const start = scaleOf(block);
  const tried: BlockGrid = { ...grid };
  let least = normError(block, tried, symmetric);
  let beta = BETA;
  for (let step = 0; step < STEPS; step++, beta *= GROWTH) {
    const { scale, zeroPoint } = tried;
    const [low, high] = symmetric ? [-8, 7] : [-zeroPoint, 15 - zeroPoint];
    let [wl, ll, shift] = [0, 0, 0];
    for (let i = 0; i < count; i++) {
      const level = Math.max(low, Math.min(high, roundHalfEven(values[i] / scale)));
      const kept = values[i] - start * shrink((values[i] - level * scale) / start, beta);
      wl += kept * level;
      ll += level * level;
      shift += level - kept / scale;
    }
    const moved = symmetric ? 0 : Math.max(0, Math.min(15, roundHalfEven(zeroPoint + shift / count)));
    const outermost = symmetric ? 8 : Math.max(moved, 15 - moved);
    if (!(ll > 0) || !setGrid(tried, wl / ll, moved, { outermost, bf16 })) return;
    const error = normError(block, tried, symmetric);
    if (error < least) {
      least = error;
      Object.assign(grid, tried);
    } else if (tried.scale === scale && tried.zeroPoint === zeroPoint) return; // a fixed point
  }
}

/** The paper's β is for weights with a deviation of about 0.02, as language models have: what stands for 1 there. */
function scaleOf({ values, count }: BlockValues): number {
  let square = 0;
  for (let i = 0; i < count; i++) square += values[i] * values[i];
  return Math.sqrt(square / count) * 50;
}

/** Generalized soft threshold: `sign(x) · max(0, |x| − |x|^(p−1) / β)`. */
function shrink(x: number, beta: number): number {
  const size = Math.abs(x);
  return size === 0 ? 0 : Math.sign(x) * Math.max(0, size - size ** (NORM - 1) / beta);
}

function normError({ values, count }: BlockValues, { scale, zeroPoint }: BlockGrid, symmetric: boolean): number {
  const [low, high] = symmetric ? [-8, 7] : [-zeroPoint, 15 - zeroPoint];
  let sum = 0;
  for (let i = 0; i < count; i++) {
    const level = Math.max(low, Math.min(high, roundHalfEven(values[i] / scale)));
    sum += Math.abs(values[i] - level * scale) ** NORM;
  }
  return sum;
}
