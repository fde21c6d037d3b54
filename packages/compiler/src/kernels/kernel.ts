import { readSync } from 'node:fs';
import { channelPeaks, type Int4Blocks, prepareInt4, quantizeFourBit, QuantError, roundToInt8 } from '@flotilla/quant';
import { CompilerError } from '../errors.ts';
import { type BlockOptions, blocksOf } from '../int4/blocks-of.ts';
import { plainBytes, writeAt } from './write-at.ts';

/** One piece of work on a weight or a part of it: the numbers, what is to become of them, and where that goes. */
export type KernelTask = { readonly weights: Weights; readonly into: Target | undefined } & KernelWork;

export type KernelWork =
  | { readonly kind: 'int4'; readonly options: BlockOptions }
  | {
      readonly kind: 'codebook';
      readonly format: 'nf4' | 'fp4';
      readonly block: number;
      readonly turn: Turn | undefined;
    }
  | { readonly kind: 'peaks'; readonly channels: number; readonly inner: number }
  | { readonly kind: 'int8'; readonly channels: number; readonly inner: number; readonly scale: Float32Array };

/** In memory, or to be read from an open file, from that byte on. */
export type Weights = Float32Array<ArrayBuffer> | FileWeights;

interface FileWeights {
  readonly fd: number;
  readonly offset: number;
  readonly length: number;
}

/** An open file, and where in it each part of the result goes; those that have no place come back. */
export interface Target {
  readonly fd: number;
  readonly offsets: readonly number[];
}

/** A matrix that is to be transposed first. */
export interface Turn {
  readonly rows: number;
  readonly columns: number;
}

export type KernelResult = readonly (Uint8Array | Float32Array)[];

/**
 * int4: levels, scales, zero points (none where symmetric). codebook: codes and maxima. peaks: `max|w|` per
 * channel. int8: levels on the given scales. With `into`: nothing, all of it is in the file.
 * @throws {QuantError}, and what reading and writing throw
 */
export function runKernel({ weights, into, ...work }: KernelTask): KernelResult {
  const made = work.kind === 'int4' ? runInt4(weights, work.options) : runInMemory(inMemory(weights), work);
  if (!into) return made.map((part) => part.slice()); // the kernel's memory is its own
  for (const [index, part] of made.entries()) writeAt(into.fd, part, into.offsets[index] ?? 0);
  return [];
}

function runInt4(weights: Weights, options: BlockOptions): KernelResult {
  const { hessian, clip, ...plain } = options;
  const { q, scale, zeroPoint } =
    hessian || clip === 'hqq' ? blocksOf(inMemory(weights), options) : nearestBlocks(weights, { ...plain, clip });
  return zeroPoint ? [q, scale, zeroPoint] : [q, scale];
}

/** Weights in a file are read to where the kernel works on them. */
function nearestBlocks(weights: Weights, options: Parameters<typeof prepareInt4>[0]): Int4Blocks {
  const { w, run } = prepareInt4(options);
  if (weights instanceof Float32Array) w.set(weights);
  else readInto(weights, w);
  return run();
}

function runInMemory(w: Float32Array, work: Exclude<KernelWork, { kind: 'int4' }>): KernelResult {
  switch (work.kind) {
    case 'codebook': {
      const { packed, absMax } = quantizeFourBit(work.turn ? transpose(w, work.turn) : w, work);
      // bitsandbytes has the first code in the high nibble, ONNX in the low one.
      return [packed.map((byte) => (byte >> 4) | (byte << 4)), absMax];
    }
    case 'peaks':
      return [channelPeaks(w, work.channels, work.inner)];
    case 'int8':
      return [new Uint8Array(roundToInt8(w, work.scale, { inner: work.inner, most: 127 }).buffer)];
  }
}

/** Kept for the next task: memory that is new costs as much as reading. */
let room = new Float32Array(0);

function inMemory(weights: Weights): Float32Array {
  if (weights instanceof Float32Array) return weights;
  if (room.length < weights.length) room = new Float32Array(weights.length);
  return readInto(weights, room.subarray(0, weights.length));
}

function readInto({ fd, offset }: FileWeights, w: Float32Array): Float32Array {
  const bytes = plainBytes(w);
  for (let done = 0; done < bytes.length; ) {
    const count = readSync(fd, bytes, done, bytes.length - done, offset + done);
    if (count === 0) throw new CompilerError('compiler/weights', 'the model became shorter while it was read');
    done += count;
  }
  return w;
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
