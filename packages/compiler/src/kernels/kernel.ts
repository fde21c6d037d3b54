import { channelPeaks, quantizeFourBit, QuantError, roundToInt8 } from '@flotilla/quant';
import { type BlockOptions, blocksOf } from '../int4/blocks-of.ts';

/** One piece of work on a weight or a part of it: the numbers, and what is to become of them. */
export type KernelTask = { readonly w: Float32Array } & (
  | { readonly kind: 'int4'; readonly options: BlockOptions }
  | {
      readonly kind: 'codebook';
      readonly format: 'nf4' | 'fp4';
      readonly block: number;
      readonly turn: Turn | undefined;
    }
  | { readonly kind: 'peaks'; readonly channels: number; readonly inner: number }
  | { readonly kind: 'int8'; readonly channels: number; readonly inner: number; readonly scale: Float32Array }
);

/** A matrix that is to be transposed first. */
export interface Turn {
  readonly rows: number;
  readonly columns: number;
}

export type KernelResult = readonly (Uint8Array | Float32Array)[];

/**
 * int4: levels, scales, zero points (none where symmetric). codebook: codes and maxima. peaks: `max|w|` per
 * channel. int8: levels on the given scales.
 * @throws {QuantError}
 */
export function runKernel(task: KernelTask): KernelResult {
  const { w } = task;
  switch (task.kind) {
    case 'int4': {
      const { q, scale, zeroPoint } = blocksOf(w, task.options);
      return zeroPoint ? [q, scale, zeroPoint] : [q, scale];
    }
    case 'codebook': {
      const { packed, absMax } = quantizeFourBit(task.turn ? transpose(w, task.turn) : w, task);
      // bitsandbytes has the first code in the high nibble, ONNX in the low one.
      return [packed.map((byte) => (byte >> 4) | (byte << 4)), absMax];
    }
    case 'peaks':
      return [channelPeaks(w, task.channels, task.inner)];
    case 'int8':
      return [new Uint8Array(roundToInt8(w, task.scale, { inner: task.inner, most: 127 }).buffer)];
  }
}

/** Names the weight by its place in the whole tensor, of which the task may have had a part. */
export function placedError(error: unknown, w: Float32Array, first: number): unknown {
  if (!(error instanceof QuantError) || error.code !== 'quant/not-finite' || first === 0) return error;
  const index = w.findIndex((value) => !Number.isFinite(value));
  return new QuantError(error.code, `weight ${first + index} is ${w[index]}`);
}

function transpose(w: Float32Array, { rows, columns }: Turn): Float32Array {
  const turned = new Float32Array(w.length);
  for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) turned[c * rows + r] = w[r * columns + c] ?? 0;
  return turned;
}
