import { QuantError } from '../errors.ts';
import { checkFinite } from './blocks.ts';
import { dynamicMap } from './dynamic-map.ts';

/** Block maxima in 8 bits each: "double quantization". */
export interface NestedAbsMax {
  /** Indices into the map, one to a block of weights. */
  readonly codes: Uint8Array;
  /** The largest magnitude of each 256 of them, after the offset is taken off. */
  readonly absMax: Float32Array;
  /** Their mean, in float32. */
  readonly offset: number;
  /** What the 256 codes stand for, rising. Default: bitsandbytes' signed dynamic map. */
  readonly map?: Float32Array | undefined;
  /** Codes that share a maximum. Default 256. */
  readonly block?: number | undefined;
}

const BLOCK = 256;

/**
 * Takes the mean off the block maxima and stores the rest in 8 bits, 256 to a scale: 32 bits a block become 8.125.
 * @throws {QuantError} `quant/not-finite`
 * @see Dettmers et al. 2023, QLoRA, §3 "Double Quantization"
 */
export function nestAbsMax(absMax: Float32Array): NestedAbsMax & { readonly map: Float32Array } {
  checkFinite('absmax', absMax);
  const offset = Math.fround(absMax.reduce((sum, value) => sum + value, 0) / Math.max(1, absMax.length));
  const rest = absMax.map((value) => value - offset);
  const map = dynamicMap();
  const codes = new Uint8Array(rest.length);
  const scales = new Float32Array(Math.ceil(rest.length / BLOCK));
  for (let b = 0; b < scales.length; b++) {
    const part = rest.subarray(b * BLOCK, (b + 1) * BLOCK);
    scales[b] = part.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    const scale = scales[b] > 0 ? scales[b] : 1;
    for (let i = 0; i < part.length; i++) codes[b * BLOCK + i] = nearestCode(map, Math.fround(part[i] / scale));
  }
  return { codes, absMax: scales, offset, map };
}

/**
 * `map[code] · absMax + offset`, each step in float32.
 * @throws {QuantError} `quant/shape` if lengths do not fit or the map has not 256 entries; `quant/not-finite` if the offset
 *   is missing (NaN), or a maximum is NaN or infinite
 */
export function unnestAbsMax({ codes, absMax, offset, map = dynamicMap(), block = BLOCK }: NestedAbsMax): Float32Array {
  if (!Number.isInteger(block) || block < 1) throw new QuantError('quant/shape', `nested block length ${block}`);
  if (map.length !== 256 || absMax.length !== Math.ceil(codes.length / block)) {
    const given = `${absMax.length} maxima and a map of ${map.length}`;
    throw new QuantError('quant/shape', `${given} for ${codes.length} codes in blocks of ${block}`);
  }
  if (!Number.isFinite(offset))
    throw new QuantError('quant/not-finite', `the nested offset is ${offset}`, {
      hint: 'bitsandbytes stores it as nested_offset; without it no scale can be told',
    });
  checkFinite('nested absmax', absMax);
  checkFinite('nested map entry', map);
  const values = new Float32Array(codes.length);
  for (let i = 0; i < codes.length; i++) {
    values[i] = Math.fround(map[codes[i]] * absMax[Math.floor(i / block)]) + offset;
  }
  return values;
}

/** The upper of two codes only where it is strictly nearer. */
function nearestCode(map: Float32Array, value: number): number {
  let low = 0;
  let high = map.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (map[middle] <= value) low = middle;
    else high = middle;
  }
  return map[high] - value < value - map[low] ? high : low;
}
