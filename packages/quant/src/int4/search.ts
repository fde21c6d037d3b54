import { QuantError } from '../errors.ts';
import { roundHalfEven } from '../int8/round.ts';
import { type BlockKernelOptions, type BlockResult, type BlockSizes, runBlocks } from './block-kernel.ts';
import { type BlockGrid, fullGrid } from './grid.ts';
import { hqqGrid } from './hqq.ts';
import { packNibbles } from './nibbles.ts';

export interface FindOptions extends Omit<BlockKernelOptions, 'search'> {
  readonly clip: 'none' | 'mse' | 'hqq';
}

/**
 * Chooses the grids of all blocks of `[rows, cols, inner]` by the options' rule; levels where asked for.
 * @throws {QuantError} `quant/not-finite` naming the first index that is NaN or infinite
 */
export function findBlocks(w: Float32Array, sizes: BlockSizes, { clip, ...options }: FindOptions): BlockResult {
  if (clip === 'hqq') return hqqBlocks(w, sizes, options);
  return runBlocks(w, sizes, { ...options, search: clip === 'mse' });
}

function hqqBlocks(w: Float32Array, sizes: BlockSizes, options: Omit<FindOptions, 'clip'>): BlockResult {
  const { rows, cols, inner, block } = sizes;
  const blocks = Math.ceil(cols / block);
  const scale = new Float32Array(rows * blocks * inner);
  const zeroPoint = new Uint8Array(scale.length);
  const levels = new Uint8Array(options.levels ? w.length : 0);
  const values = new Float64Array(Math.min(block, cols));
  const grid: BlockGrid = { scale: 1, zeroPoint: 0 };
  for (let at = 0; at < scale.length; at++) {
    const b = Math.floor(at / inner) % blocks;
    const row = Math.floor(at / inner / blocks);
    const count = Math.min(block, cols - b * block);
    const first = (row * cols + b * block) * inner + (at % inner);
    for (let k = 0; k < count; k++) values[k] = finite(w, first + k * inner);
    const found = { values, count };
    if (fullGrid(found, options, grid)) hqqGrid(found, options, grid);
    scale[at] = grid.scale;
    zeroPoint[at] = grid.zeroPoint;
    if (!options.levels) continue;
    for (let k = 0; k < count; k++) levels[first + k * inner] = levelOf(values[k], grid, options.symmetric ? -8 : 0);
  }
  return options.packed
    ? { scale, zeroPoint: packNibbles(zeroPoint), levels: packNibbles(levels) }
    : { scale, zeroPoint, levels };
}

function finite(w: Float32Array, index: number): number {
  const value = w[index];
  if (!Number.isFinite(value)) throw new QuantError('quant/not-finite', `weight ${index} is ${value}`);
  return value;
}

function levelOf(value: number, { scale, zeroPoint }: BlockGrid, lowest: number): number {
  return Math.max(lowest, Math.min(lowest + 15, roundHalfEven(value / scale) + zeroPoint));
}
