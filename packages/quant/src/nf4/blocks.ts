import { QuantError } from '../errors.ts';
import { fourBitFormat, ladderOf } from './levels.ts';

export interface FourBitOptions {
  readonly format: 'nf4' | 'fp4';
  /** Consecutive weights that share an absmax; even. bitsandbytes has 64 as default. The last block may be short. */
  readonly block: number;
}

export interface FourBitBlocks {
  /** Two codes to a byte, the first in the HIGH nibble: bitsandbytes' order, not ONNX's. */
  readonly packed: Uint8Array;
  /** The largest magnitude of each block, float32. */
  readonly absMax: Float32Array;
}

/**
 * NF4 or FP4 over the flattened array, in blocks: `w ≈ level[code] · absMax`. Bit for bit what bitsandbytes stores for
 * whole blocks: `w · (1 / absMax)` in float32, then the nearest level, the lower one on a tie.
 * @param w an even number of weights, row-major, as the checkpoint holds them
 * @throws {QuantError} `quant/shape` if the block is odd or not positive, or the number of weights odd;
 *   `quant/not-finite` naming the index
 * @see Dettmers et al. 2023, QLoRA, §3
 */
export function quantizeFourBit(w: Float32Array, { format, block }: FourBitOptions): FourBitBlocks {
  const blocks = countBlocks(w.length, block);
  const { codes, bounds } = ladderOf(fourBitFormat(format));
  const packed = new Uint8Array(w.length / 2);
  const absMax = new Float32Array(blocks);
  for (let b = 0; b < blocks; b++) {
    const end = Math.min(w.length, (b + 1) * block);
    for (let i = b * block; i < end; i++) {
      if (!Number.isFinite(w[i])) throw new QuantError('quant/not-finite', `weight ${i} is ${w[i]}`);
      absMax[b] = Math.max(absMax[b], Math.abs(w[i]));
    }
    // A block of zeros, or of subnormals whose reciprocal overflows, is read at 1e-38, as bitsandbytes does.
    const inverse = Math.fround(1 / Math.fround(Math.max(absMax[b], 1e-38)));
    for (let i = b * block; i < end; i++) {
      const code = codes[stepsBelow(bounds, Math.fround(w[i] * inverse))];
      packed[i >> 1] |= code << ((i & 1) === 0 ? 4 : 0);
    }
  }
  return { packed, absMax };
}

/**
 * `level[code] · absMax` in float32.
 * @param count weights; even
 * @param levels what the 16 codes stand for; default: the format's own. A checkpoint carries its `quant_map`.
 * @throws {QuantError} `quant/shape` if lengths do not fit, or there are not 16 levels; `quant/not-finite` if an absmax
 *   or a level is NaN or infinite
 */
export function dequantizeFourBit(
  { packed, absMax }: FourBitBlocks,
  { format, block, count, levels }: FourBitOptions & { readonly count: number; readonly levels?: Float32Array },
): Float32Array {
  const blocks = countBlocks(count, block);
  const table = levels ?? fourBitFormat(format).levels;
  if (packed.length !== count / 2 || absMax.length !== blocks || table.length !== 16) {
    const given = `${packed.length} bytes, ${absMax.length} absmax and ${table.length} levels`;
    throw new QuantError('quant/shape', `${given} for ${count} weights in blocks of ${block}`);
  }
  checkFinite('absmax', absMax);
  checkFinite('level', table);
  const w = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    const code = (packed[i >> 1] >> ((i & 1) === 0 ? 4 : 0)) & 15; // four bits: no code is above 15
    w[i] = table[code] * absMax[Math.floor(i / block)];
  }
  return w;
}

export function checkFinite(name: string, values: Float32Array): void {
  for (let i = 0; i < values.length; i++) {
    if (!Number.isFinite(values[i])) throw new QuantError('quant/not-finite', `${name} ${i} is ${values[i]}`);
  }
}

function countBlocks(count: number, block: number): number {
  if (!Number.isInteger(block) || block < 2 || block % 2 !== 0)
    throw new QuantError('quant/shape', `block length ${block}: it must be even and positive`);
  if (!Number.isInteger(count) || count < 0 || count % 2 !== 0)
    throw new QuantError('quant/shape', `${count} weights: two share a byte, so the number must be even`);
  return Math.ceil(count / block);
}

/** How many bounds lie below the value: by halves, over 15. */
function stepsBelow(bounds: Float32Array, value: number): number {
  let low = 0;
  let high = bounds.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (value > bounds[middle]) low = middle + 1;
    else high = middle;
  }
  return low;
}
