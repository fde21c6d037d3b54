import type { CacheIo, DecoderIo } from './decoder-io.ts';
import { makeTensor } from './tensors.ts';
import type { Tensors, TensorValue } from './types.ts';

type Numbers = Exclude<TensorValue, { dtype: 'string' }>;

/** Least room that is added when a cache is full, in tokens. */
const LEAST_GROWTH = 32;

/**
 * Keys and values of the tokens read so far, `[batch, heads, capacity, size]` per layer, of which the first `length`
 * are valid. A model that writes in place is given room to write into; one that gives its whole cache anew counts all
 * that it is fed as valid.
 */
export class KvCache {
  length = 0;
  capacity = 0;
  private readonly io: DecoderIo;
  private batch = 0;
  private tensors: Numbers[] = [];

  constructor(io: DecoderIo) {
    this.io = io;
  }

  /** Keeps the first `length` tokens, or none where the batch is another. */
  cut(batch: number, length: number): void {
    if (batch !== this.batch) {
      this.batch = batch;
      this.capacity = 0;
      this.tensors = this.io.caches.map((cache) => empty(cache, batch, 0));
    }
    this.length = Math.min(this.length, length);
    if (!this.io.inPlace && this.length < this.capacity) this.lay(this.length);
  }

  feeds(): Tensors {
    return Object.fromEntries(this.io.caches.map(({ input }, i) => [input, this.tensors[i] as Numbers]));
  }

  /** Makes room for so many tokens more. @returns whether the cache has moved for it */
  reserve(added: number): boolean {
    const tokens = this.length + added;
    if (tokens <= this.capacity) return false;
    // In proportion, so that all growing together copies the cache only a few times.
    const spare = Math.max(LEAST_GROWTH, tokens >> 3);
    this.lay(Math.ceil((tokens + spare) / LEAST_GROWTH) * LEAST_GROWTH);
    return true;
  }

  /** What a model that writes in place is to write into: what it is fed. */
  into(): Tensors {
    return Object.fromEntries(this.io.caches.map(({ output }, i) => [output, this.tensors[i] as Numbers]));
  }

  /** Takes in a run that read `added` tokens; of a model that does not write in place, its outputs. */
  take(added: number, outputs: Tensors): void {
    this.length += added;
    if (this.io.inPlace) return;
    this.tensors = this.io.caches.map(({ output }) => outputs[output] as Numbers);
    this.capacity = this.length;
  }

  /** One after the other, so that only one exists twice. */
  private lay(capacity: number): void {
    for (const [i, cache] of this.io.caches.entries()) {
      const laid = empty(cache, this.batch, capacity);
      copyRows(this.tensors[i] as Numbers, laid, this.length);
      this.tensors[i] = laid;
    }
    this.capacity = capacity;
  }
}

function empty({ dtype, heads, size }: CacheIo, batch: number, capacity: number): Numbers {
  return makeTensor(dtype, [batch, heads, capacity, size]) as Numbers;
}

/** Copies the first `count` tokens of every head from one `[batch, heads, tokens, size]` to another. */
function copyRows(from: Numbers, to: Numbers, count: number): void {
  const [batch = 0, heads = 0, fromTokens = 0, size = 0] = from.dims;
  const [, , toTokens = 0] = to.dims;
  const source = from.data as Float32Array; // both have one type, whichever it is
  const target = to.data as Float32Array;
  for (let head = 0; head < batch * heads; head++) {
    const start = head * fromTokens * size;
    target.set(source.subarray(start, start + count * size), head * toTokens * size);
  }
}
