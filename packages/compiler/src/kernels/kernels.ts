import { elementCount, type NewTensor, type OpenBytes, type Tensor } from '@flotilla/onnx';
import { sizesAt } from '../int4/weight-site.ts';
import type { BlockOptions } from '../int4/blocks-of.ts';
import { type KernelResult, type KernelWork, placedError, type Target, type Turn } from './kernel.ts';
import { KernelPool } from './pool.ts';
import { Results, type Shapes, type Writing } from './results.ts';
import { floatsBetween, rowsOf, slabsOf } from './tensor-parts.ts';

export interface KernelsOptions {
  /** Worker threads. Default 1: none, everything runs here. */
  readonly threads?: number | undefined;
  /** Results go here, and what an earlier run left here under the same key is taken. Default: memory. */
  readonly folder?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Converts float32 weights, part by part on worker threads: of a weight only the parts under way are in memory. A key says
 * all that the result depends on beside the inputs of the whole compilation.
 */
export class Kernels {
  readonly #pool: KernelPool;
  readonly #results: Results;

  constructor({ threads = 1, folder, signal }: KernelsOptions = {}) {
    this.#pool = new KernelPool(threads, signal);
    this.#results = new Results(folder);
  }

  /** Weights that are worth having under way at a time. */
  get width(): number {
    return this.#pool.threads + 1;
  }

  /** What an earlier run had finished. */
  get resumedBytes(): number {
    return this.#results.foundBytes;
  }

  close(): Promise<void> {
    return this.#pool.close();
  }

  /** Levels, scales `[.., blocks, ..]` and, unless symmetric, zero points. GPTQ takes the weight in one piece. */
  async int4(
    key: string,
    tensor: Tensor,
    axis: number,
    options: Omit<BlockOptions, 'rows' | 'cols' | 'inner'>,
  ): Promise<readonly NewTensor[]> {
    const sizes = sizesAt(tensor.dims, axis);
    const { block, symmetric, hessian, importance } = options;
    const dtype = symmetric ? 'int4' : 'uint4';
    const scaleDims = tensor.dims.with(axis, Math.ceil(sizes.cols / block));
    const scales = elementCount({ dims: scaleDims });
    const shapes: Shapes = [
      { dtype, dims: tensor.dims, byteLength: (elementCount(tensor) + 1) >> 1 },
      { dtype: 'float32', dims: scaleDims, byteLength: scales * 4 },
      ...(symmetric ? [] : [{ dtype, dims: scaleDims, byteLength: (scales + 1) >> 1 } as const]),
    ];
    const whole = { first: 0, firstScale: 0, count: elementCount(tensor), ...sizes, firstCol: 0 };
    const slabs = hessian ? [whole] : slabsOf(sizes, block);
    return this.#make(key, shapes, (writing) =>
      slabs.map(({ first, firstScale, count, rows, cols, firstCol }) => {
        const costs = importance?.slice(firstCol, firstCol + cols);
        const parts = { ...options, importance: costs, rows, cols, inner: sizes.inner };
        const places = [first / 2, firstScale * 4, firstScale / 2];
        return this.#put(writing, places, { tensor, first, count }, { kind: 'int4', options: parts });
      }),
    );
  }

  /** NF4 or FP4: codes, and the blocks' maxima. */
  async codebook(
    key: string,
    tensor: Tensor,
    options: { readonly format: 'nf4' | 'fp4'; readonly block: number; readonly turn: Turn | undefined },
  ): Promise<readonly [codes: NewTensor, absMax: NewTensor]> {
    const count = elementCount(tensor);
    const blocks = count / options.block;
    const shapes: Shapes = [
      { dtype: 'uint4', dims: [blocks, options.block], byteLength: count / 2 },
      { dtype: 'float32', dims: [blocks], byteLength: blocks * 4 },
    ];
    // What is turned is needed whole.
    const parts = options.turn ? [{ first: 0, rows: blocks }] : rowsOf(blocks, options.block);
    const made = await this.#make(key, shapes, (writing) =>
      parts.map(({ first, rows }) => {
        const [start, some] = [first * options.block, rows * options.block];
        const part = { tensor, first: start, count: some };
        return this.#put(writing, [start / 2, first * 4], part, { kind: 'codebook', ...options });
      }),
    );
    return made as unknown as readonly [NewTensor, NewTensor];
  }

  /** int8 with one scale per index of `axis`: levels and scales. */
  async int8(key: string, tensor: Tensor, axis: number): Promise<readonly NewTensor[]> {
    const { rows, cols: channels, inner } = sizesAt(tensor.dims, axis);
    const shapes: Shapes = [
      { dtype: 'int8', dims: tensor.dims, byteLength: elementCount(tensor) },
      { dtype: 'float32', dims: [channels], byteLength: channels * 4 },
    ];
    const found = this.#results.found(key, shapes);
    if (found) return found;
    const parts = partsOf(rows, channels, inner);
    const peaks = new Float32Array(channels);
    await settled(
      parts.map(async ({ first, count, channel, channels: some }) => {
        const [own] = await this.#run({ tensor, first, count }, { kind: 'peaks', channels: some, inner }, undefined);
        for (let c = 0; c < some; c++) peaks[channel + c] = Math.max(peaks[channel + c] ?? 0, own?.[c] ?? 0);
      }),
    );
    const scale = peaks.map(stepOf);
    return this.#make(key, shapes, (writing) => {
      writing.write(1, scale, 0);
      return parts.map(({ first, count, channel, channels: some }) => {
        const own = scale.slice(channel, channel + some);
        const work = { kind: 'int8', channels: some, inner, scale: own } as const;
        return this.#put(writing, [first], { tensor, first, count }, work);
      });
    });
  }

  async #make(
    key: string,
    shapes: Shapes,
    start: (writing: Writing) => readonly Promise<void>[],
  ): Promise<readonly NewTensor[]> {
    const found = this.#results.found(key, shapes);
    if (found) return found;
    const writing = this.#results.begin(key, shapes);
    try {
      await settled(start(writing));
    } catch (error) {
      writing.drop();
      throw error;
    }
    return writing.finish();
  }

  /** Makes a part of the result; `places`: where it begins in each of the result's tensors, in bytes. */
  async #put(writing: Writing, places: readonly number[], part: Part, work: KernelWork): Promise<void> {
    const { file } = writing;
    const offsets = places.map((place, index) => (file?.offsets[index] ?? 0) + place);
    const made = await this.#run(part, work, file && { fd: file.fd, offsets });
    for (const [index, bytes] of made.entries()) writing.write(index, bytes, places[index] ?? 0);
  }

  async #run({ tensor, first, count }: Part, work: KernelWork, into: Target | undefined): Promise<KernelResult> {
    let file: OpenBytes | undefined;
    try {
      return await this.#pool.run(count, () => {
        file = tensor.openFile();
        const weights = file
          ? { fd: file.fd, offset: file.offset + first * 4, length: count }
          : floatsBetween(tensor, first, first + count);
        return { ...work, weights, into };
      });
    } catch (error) {
      throw placedError(error, floatsBetween(tensor, first, first + count), first);
    } finally {
      file?.close();
    }
  }
}

/** Of a weight, `[first, first + count)`. */
interface Part {
  readonly tensor: Tensor;
  readonly first: number;
  readonly count: number;
}

/** As `quantizeInt8` takes it. */
function stepOf(peak: number): number {
  const step = Math.fround(peak / 127);
  return step > 1.2e-38 ? step : 1;
}

interface ChannelPart {
  readonly first: number;
  readonly count: number;
  /** The first of its channels, and how many. */
  readonly channel: number;
  readonly channels: number;
}

/** `[rows, channels, inner]` in pieces: of rows, or where there is one row only, of channels. */
function partsOf(rows: number, channels: number, inner: number): readonly ChannelPart[] {
  if (rows === 1)
    return rowsOf(channels, inner).map(({ first, rows: some }) => ({
      first: first * inner,
      count: some * inner,
      channel: first,
      channels: some,
    }));
  const width = channels * inner;
  return rowsOf(rows, width).map(({ first, rows: some }) => ({
    first: first * width,
    count: some * width,
    channel: 0,
    channels,
  }));
}

/** All of them, so that nothing goes on behind a failure's back; then the first failure. */
async function settled(work: readonly Promise<void>[]): Promise<void> {
  for (const outcome of await Promise.allSettled(work)) if (outcome.status === 'rejected') throw outcome.reason;
}
