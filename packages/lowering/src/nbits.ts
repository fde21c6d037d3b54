import type { NewTensor } from '@flotilla/onnx';
import { tensorFromFloats } from '@flotilla/onnx';
import { type QuantizedConstant, values } from './quantized-constant.ts';

/** A matrix as `com.microsoft.MatMulNBits` wants it: one row per output, blocks along K. */
export interface NBitsWeight {
  readonly k: number;
  readonly n: number;
  readonly bits: 4 | 8;
  readonly block: number;
  /** uint8 `[N, ceil(K / block), block · bits / 8]`, first element in the low nibble. */
  readonly q: NewTensor;
  /** float32 `[N · blocks]`. */
  readonly scale: NewTensor;
  /** uint8, packed like q within a row; undefined where every zero point is the middle, 2^(bits−1). */
  readonly zeroPoint: NewTensor | undefined;
}

/** Blocks that have fast kernels; any other falls to a generic path. */
const BLOCKS: readonly number[] = [16, 32, 64, 128, 256];
/** For weights with one scale per column: any block gives the same numbers. */
const COLUMN_BLOCK = 64;

/** Why a constant has no such form; undefined if it has one. @param transposed the weight is `[N, K]` */
export function unfitForNBits(constant: QuantizedConstant, transposed: boolean): string | undefined {
  const { tensor, bits, block, axis, cols, scale } = constant;
  if (tensor.dims.length !== 2) return `its weight has rank ${tensor.dims.length}`;
  if (bits === 32) return 'its weight is int32';
  if ((bits === 4 || block !== 0) && !BLOCKS.includes(block)) return `block length ${block} has no fast kernel`;
  const summed = transposed ? 1 : 0;
  if (scale.length > 1 && axis !== (block === 0 ? 1 - summed : summed)) return 'its scales run along the other axis';
  const k = block !== 0 ? cols : (tensor.dims[1 - axis] ?? 0);
  return k < 16 ? `only ${k} weights to sum over` : undefined;
}

/** What of the form is known without its weights. @param transposed the weight is `[N, K]`, as Gemm's `transB` has it */
export function nBitsSizes(constant: QuantizedConstant, transposed: boolean) {
  const { tensor, bits } = constant;
  const [rows = 0, columns = 0] = tensor.dims;
  const [k, n] = transposed ? [columns, rows] : [rows, columns];
  const block = constant.block === 0 ? COLUMN_BLOCK : constant.block;
  const blocks = Math.ceil(k / block);
  const perByte = bits === 4 ? 2 : 1;
  const symmetric = !tensor.dtype.startsWith('u') && constant.zeroPoint === undefined;
  return {
    ...{ k, n, block, bits: bits === 4 ? (4 as const) : (8 as const) },
    q: [n, blocks, block / perByte],
    scale: [n * blocks],
    zeroPoint: symmetric ? undefined : [n * Math.ceil(blocks / perByte)],
  };
}

/** @param transposed the weight is `[N, K]`, as Gemm's `transB` has it */
export function nBitsWeight(constant: QuantizedConstant, transposed: boolean): NBitsWeight {
  const { tensor } = constant;
  const { k, n, bits, block, ...dims } = nBitsSizes(constant, transposed);
  const blocks = Math.ceil(k / block);
  const middle = tensor.dtype.startsWith('u') ? 0 : bits === 4 ? 8 : 128; // signed values are stored shifted
  const levels = values(tensor);
  const perByte = bits === 4 ? 2 : 1;
  const q = (bits === 4 ? packRows : storeRows)(levels, { k, n, transposed, middle, width: blocks * block });
  const scale = new Float32Array(n * blocks);
  const zeros = new Uint8Array(n * Math.ceil(blocks / perByte));
  const zeroAt = (index: number) => ((constant.zeroPoint?.[index] ?? 0) as number) + middle;
  for (let j = 0; j < n; j++) {
    for (let b = 0; b < blocks; b++) {
      const index = scaleIndex(constant, transposed, { b, j, blocks, n });
      scale[j * blocks + b] = constant.scale[index] ?? 0;
      const at = bits === 4 ? j * Math.ceil(blocks / 2) + (b >> 1) : j * blocks + b;
      zeros[at] = (zeros[at] ?? 0) | (zeroAt(index) << (bits === 4 ? (b & 1) << 2 : 0));
    }
  }
  // A last block that is cut short needs no care: ONNX Runtime reads K activations, whatever q holds beyond.
  return {
    ...{ k, n, bits, block },
    q: { dtype: 'uint8', dims: dims.q, bytes: q },
    scale: tensorFromFloats(dims.scale, scale),
    zeroPoint: dims.zeroPoint && { dtype: 'uint8', dims: dims.zeroPoint, bytes: zeros },
  };
}

interface Rows {
  readonly k: number;
  readonly n: number;
  readonly transposed: boolean;
  readonly middle: number;
  /** Elements of a row of the result, `k` or more. */
  readonly width: number;
}

/** Columns that are turned into rows side by side: a cache line of each of so many rows stays at hand. */
const TILE = 64;

/** Rows of two levels to a byte. */
function packRows(levels: ArrayLike<number>, { k, n, transposed, middle, width }: Rows): Uint8Array {
  const q = new Uint8Array((n * width) / 2);
  const [perK, perN] = transposed ? [1, k] : [n, 1];
  for (let first = 0; first < n; first += TILE) {
    const end = Math.min(n, first + TILE);
    for (let i = 0; i < k; i += 2) {
      const paired = i + 1 < k;
      for (let j = first; j < end; j++) {
        const at = j * perN + i * perK;
        const high = paired ? (levels[at + perK] ?? 0) + middle : 0;
        q[(j * width + i) >> 1] = ((levels[at] ?? 0) + middle) | (high << 4);
      }
    }
  }
  return q;
}

/** Rows of one level to a byte. */
function storeRows(levels: ArrayLike<number>, { k, n, transposed, middle, width }: Rows): Uint8Array {
  const q = new Uint8Array(n * width);
  const [perK, perN] = transposed ? [1, k] : [n, 1];
  for (let first = 0; first < n; first += TILE) {
    const end = Math.min(n, first + TILE);
    for (let i = 0; i < k; i++)
      for (let j = first; j < end; j++) q[j * width + i] = (levels[j * perN + i * perK] ?? 0) + middle;
  }
  return q;
}

function scaleIndex(
  { scale, block }: QuantizedConstant,
  transposed: boolean,
  { b, j, blocks, n }: { b: number; j: number; blocks: number; n: number },
): number {
  if (scale.length === 1) return 0;
  if (block === 0) return j; // one scale per column
  return transposed ? j * blocks + b : b * n + j;
}
