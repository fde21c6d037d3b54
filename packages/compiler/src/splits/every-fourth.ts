import type { DataSet } from '../data/data-set.ts';

/** The samples whose number, modulo 4, is one of these; of the first `count`, where that is known. */
export function everyFourth(data: DataSet, places: readonly number[], count: number | null): DataSet {
  const picked = (index: number): boolean => places.includes(index % 4);
  const end = count ?? Infinity;
  const length = count === null ? undefined : countPicked(count, places);
  if (data.kind === 'text') {
    return { ...data, length: length ?? data.length, texts: () => pick(data.texts(), picked, end) };
  }
  return { ...data, length, samples: () => pick(data.samples(), picked, end) };
}

function countPicked(count: number, places: readonly number[]): number {
  return places.reduce((sum, place) => sum + Math.max(0, Math.ceil((count - place) / 4)), 0);
}

async function* pick<T>(items: AsyncIterable<T>, picked: (index: number) => boolean, end: number): AsyncIterable<T> {
  let index = 0;
  for await (const item of items) {
    if (index >= end) return;
    if (picked(index++)) yield item;
  }
}

/** The first `most` samples. */
export function firstOf(data: DataSet, most: number): DataSet {
  const count = Math.min(most, data.length ?? most);
  const length = data.length === undefined ? undefined : count;
  const all = (): boolean => true;
  if (data.kind === 'text') return { ...data, length: count, texts: () => pick(data.texts(), all, count) };
  return { ...data, length, samples: () => pick(data.samples(), all, count) };
}
