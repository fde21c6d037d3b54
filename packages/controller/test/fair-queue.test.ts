import { expect, test } from 'vitest';
import { FairQueue } from '../src/fair-queue.ts';

test('devices take turns, one item each, in the order each sent them', async () => {
  const done: string[] = [];
  const queue = new FairQueue<number>({
    concurrency: 1,
    limit: 100,
    whenFull: 'drop-newest',
    work: async (item, key) => void done.push(`${key}${item}`),
    onError: () => undefined,
  });
  for (let item = 1; item <= 4; item++) queue.push('a', item);
  queue.push('b', 1);
  queue.push('c', 1);
  queue.push('b', 2);
  await queue.drained();
  expect(done).toEqual(['a1', 'a2', 'b1', 'c1', 'a3', 'b2', 'a4']);
});

test('one item of a key at a time, and never more than the limit in all', async () => {
  let running = 0;
  let most = 0;
  const busy = new Set<string>();
  const queue = new FairQueue<number>({
    concurrency: 3,
    limit: 100,
    whenFull: 'drop-newest',
    async work(_, key) {
      expect(busy.has(key)).toBe(false);
      busy.add(key);
      most = Math.max(most, ++running);
      await new Promise((resolve) => setTimeout(resolve, 1));
      running--;
      busy.delete(key);
    },
    onError: (error) => {
      throw error;
    },
  });
  for (let item = 0; item < 50; item++) queue.push(`device-${item % 5}`, item);
  await queue.drained();
  expect(most).toBe(3);
});

test.each([
  ['drop-oldest', [0, 3, 4]],
  ['drop-newest', [0, 1, 2]],
] as const)('%s when a queue is full, and counts', async (whenFull, kept) => {
  const done: number[] = [];
  let open = (): void => undefined;
  const gate = new Promise<void>((resolve) => (open = resolve));
  const queue = new FairQueue<number>({
    concurrency: 1,
    limit: 2,
    whenFull,
    work: async (item) => {
      await gate;
      done.push(item);
    },
    onError: () => undefined,
  });
  for (let item = 0; item < 5; item++) queue.push('a', item);
  open();
  await queue.drained();
  expect(done).toEqual(kept);
  expect(queue.dropped).toBe(2);
});

test('what fails is told, and the queue goes on', async () => {
  const failed: number[] = [];
  const queue = new FairQueue<number>({
    concurrency: 1,
    limit: 9,
    whenFull: 'drop-newest',
    work: async (item) => {
      if (item === 1) throw new Error('one');
    },
    onError: (_, item) => void failed.push(item),
  });
  for (const item of [0, 1, 2]) queue.push('a', item);
  await queue.drained();
  expect(failed).toEqual([1]);
});
