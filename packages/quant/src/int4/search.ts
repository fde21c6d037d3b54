import { type BlockGrid, type BlockValues, fullGrid, type GridOptions, setGrid, storedScale } from './grid.ts';
import { hqqGrid } from './hqq.ts';

/** Shares of the full range that are tried: outliers are cut off where that costs less than the finer step gains. */
const SHARES = [1, 0.97, 0.94, 0.91, 0.88, 0.85, 0.82, 0.79, 0.76, 0.73, 0.7, 0.65, 0.6];

/** Chooses a block's grid by the options' rule. */
export function findGrid(block: BlockValues, options: GridOptions, grid: BlockGrid): void {
  if (!fullGrid(block, options, grid)) return;
  if (options.clip === 'mse') searchGrid(block, options, grid);
  else if (options.clip === 'hqq') hqqGrid(block, options, grid);
}

/** Least squared error, each weight's counted by its importance. Starts from the full range. */
function searchGrid(block: BlockValues, { symmetric, bf16 }: GridOptions, grid: BlockGrid): void {
  const { scale: step, zeroPoint: nearest } = grid;
  let best = 0;
  // Other zero points shift the grid: by half a step they sometimes fit better, and where one end is cut by more.
  for (const zeroPoint of symmetric ? [0] : [nearest, nearest - 1, nearest + 1]) {
    if (zeroPoint < 0 || zeroPoint > 15) continue;
    const [low, high] = symmetric ? [-8, 7] : [-zeroPoint, 15 - zeroPoint];
    for (const share of SHARES) {
      const gain = fitScale(block, { step: step * share, low, high, bf16 });
      if (gain > best && setGrid(grid, fitted, zeroPoint, { outermost: Math.max(-low, high), bf16 })) best = gain;
    }
  }
}

/** What `fitScale` found: a return value of its own for each of millions of calls would keep the collector busy. */
let fitted = 0;

/**
 * Rounds to levels `l = clamp(round(w / step), low, high)`; then `scale = Σhwl / Σhl²` is the least-squares scale for them,
 * and a stored scale s brings the error down from `Σhw²` by `2s·Σhwl − s²·Σhl²`.
 * @returns that gain; the scale is left in `fitted`
 */
function fitScale(
  { values, importance, count }: BlockValues,
  {
    step,
    low,
    high,
    bf16,
  }: { readonly step: number; readonly low: number; readonly high: number; readonly bf16: boolean },
): number {
  let wl = 0;
  let ll = 0;
  for (let i = 0; i < count; i++) {
    const nearest = values[i] / step + 6755399441055744 - 6755399441055744; // ties to even, see roundHalfEven
    const level = nearest < low ? low : nearest > high ? high : nearest;
    const weighted = importance[i] * level;
    wl += values[i] * weighted;
    ll += level * weighted;
  }
  if (!(ll > 0)) return 0;
  fitted = storedScale(wl / ll, bf16);
  return 2 * fitted * wl - fitted * fitted * ll;
}
