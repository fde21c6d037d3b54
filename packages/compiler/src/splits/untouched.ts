import { createHash } from 'node:crypto';
import type { DataSet, Sample, TextSample } from '../data/data-set.ts';

/**
 * The judging split. Whatever was read from another part is left out of it, wherever it came from: a sample in both
 * folders, or one folder given twice, would flatter the verdict.
 */
export class Untouched {
  private readonly all: DataSet;
  private readonly touched = new Set<string>();
  private dropped = 0;

  constructor(data: DataSet) {
    this.all = data;
  }

  /** Another part: each sample read from it is out of the judging from then on. */
  except(data: DataSet): DataSet {
    const touch = (key: string): boolean => this.touched.add(key) !== undefined;
    if (data.kind === 'text') return { ...data, texts: () => filter(data.texts(), (it) => touch(textKey(it))) };
    return { ...data, samples: () => filter(data.samples(), (it) => touch(sampleKey(it))) };
  }

  /** To be read when all else is done. */
  get data(): DataSet {
    const data = this.all;
    if (data.kind === 'text') return { ...data, texts: () => this.fresh(data.texts(), textKey) };
    return { ...data, samples: () => this.fresh(data.samples(), sampleKey) };
  }

  /** Samples that the last reading left out. */
  get leftOut(): number {
    return this.dropped;
  }

  /** Whether there is a sample to judge on; reads as far as the first. An empty data set says so itself, later. */
  async holdsAny(): Promise<boolean> {
    const { data } = this;
    for await (const _ of data.kind === 'text' ? data.texts() : data.samples()) return true;
    return this.dropped === 0;
  }

  private fresh<T>(items: AsyncIterable<T>, keyOf: (item: T) => string): AsyncIterable<T> {
    this.dropped = 0;
    return filter(items, (item) => {
      const isFresh = this.touched.size === 0 || !this.touched.has(keyOf(item));
      if (!isFresh) this.dropped += 1;
      return isFresh;
    });
  }
}

async function* filter<T>(items: AsyncIterable<T>, keep: (item: T) => boolean): AsyncIterable<T> {
  for await (const item of items) if (keep(item)) yield item;
}

function textKey({ text, completion }: TextSample): string {
  return JSON.stringify([text, completion]);
}

function sampleKey({ inputs }: Sample): string {
  const hash = createHash('sha256');
  for (const [name, { dtype, dims, data }] of Object.entries(inputs).toSorted(([a], [b]) => (a < b ? -1 : 1))) {
    hash.update(JSON.stringify([name, dtype, dims]));
    if (ArrayBuffer.isView(data)) hash.update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    else hash.update(JSON.stringify(data));
  }
  return hash.digest('base64');
}
