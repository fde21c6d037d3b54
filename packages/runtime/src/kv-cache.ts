import type { CacheIo, DecoderIo } from './decoder-io.ts';
import { makeTensor } from './tensors.ts';
import type { Tensors, TensorValue } from './types.ts';

type Numbers = Exclude<TensorValue, { dtype: 'string' }>;

/** Least room that is added when a cache is full, in tokens. */
const LEAST_GROWTH = 32;

/**
 * Keys and values of the tokens read so far, `[batch, heads, capacity, size]` per layer, of which the first `length`
 * are valid. ONNX Runtime's binding copies every output that is fetched; so from a model that gives only new rows, these
 * are written into buffers with room to spare, and a step costs no copy of the cache.
 */
export class KvCache {
  length = 0;
  capacity = 0;
  private readonly io: DecoderIo;
  private batch = 0;
  private tensors: readonly Numbers[] = [];

  constructor(io: DecoderIo) {
    this.io = io;
  }

  /** Keeps the first `length` tokens, or none where the batch is another. */
  cut(batch: number, length: number): void {
    if (batch !== this.batch || length === 0) {
      this.batch = batch;
      this.length = 0;
      this.capacity = 0;
      this.tensors = this.io.caches.map((cache) => empty(cache, batch, 0));
      return;
    }
    this.length = Math.min(this.length, length);
    // A model that gives its whole cache counts all that it is fed as valid.
    if (!this.io.rowsOnly && this.length < this.capacity) this.lay(this.length);
  }

  feeds(): Tensors {
    return Object.fromEntries(this.io.caches.map(({ input }, i) => [input, this.tensors[i] as Numbers]));
  }

  /** Takes in the outputs of a run that read `added` tokens. */
  take(outputs: Tensors, added: number): void {
    const { caches, rowsOnly } = this.io;
    if (rowsOnly) {
      this.reserve(this.length + added);
      for (const [i, { output }] of caches.entries())
        copyRows(outputs[output] as Numbers, 0, this.tensors[i] as Numbers, this.length, added);
    } else {
      this.tensors = caches.map(({ output }) => outputs[output] as Numbers);
      this.capacity = this.length + added;
    }
    this.length += added;
  }

  private reserve(tokens: number): void {
    if (tokens <= this.capacity) return;
    // In proportion, so that all growing together copies the cache only a few times.
    const room = Math.max(LEAST_GROWTH, tokens >> 3);
    this.lay(Math.ceil((tokens + room) / LEAST_GROWTH) * LEAST_GROWTH);
  }

  private lay(capacity: number): void {
    this.tensors = this.io.caches.map((cache, i) => {
      const laid = empty(cache, this.batch, capacity);
      copyRows(this.tensors[i] as Numbers, 0, laid, 0, this.length);
      return laid;
    });
    this.capacity = capacity;
  }
}

function empty({ dtype, heads, size }: CacheIo, batch: number, capacity: number): Numbers {
  return makeTensor(dtype, [batch, heads, capacity, size]) as Numbers;
}

/** Copies `count` tokens of every head from one `[batch, heads, tokens, size]` to another. */
function copyRows(from: Numbers, fromToken: number, to: Numbers, toToken: number, count: number): void {
  const [batch = 0, heads = 0, fromTokens = 0, size = 0] = from.dims;
  const [, , toTokens = 0] = to.dims;
  const source = from.data as Float32Array; // both have one type, whichever it is
  const target = to.data as Float32Array;
  for (let head = 0; head < batch * heads; head++) {
    const start = (head * fromTokens + fromToken) * size;
    target.set(source.subarray(start, start + count * size), (head * toTokens + toToken) * size);
  }
}
