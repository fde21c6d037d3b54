/**
 * Starts work on items before it is their turn, `width` of them at a time, and gives results in the items' order. When the
 * caller stops, or one fails, what is under way is waited for.
 */
export async function* ahead<Item, Result>(
  items: Iterable<Item>,
  {
    width,
    start,
    waits,
    signal,
  }: {
    readonly width: number;
    readonly start: (item: Item) => Promise<Result>;
    /** Whether an item is started only when the caller is done with all before it. */
    readonly waits?: ((item: Item) => boolean) | undefined;
    readonly signal: AbortSignal | undefined;
  },
): AsyncGenerator<readonly [Item, Result]> {
  const underway: { readonly item: Item; readonly result: Promise<Result> }[] = [];
  try {
    for (const item of items) {
      signal?.throwIfAborted();
      const isLate = waits?.(item) ?? false;
      for (let first = isLate ? underway.shift() : undefined; first; first = underway.shift())
        yield [first.item, await first.result];
      const result = start(item);
      result.catch(() => {}); // its turn to be told comes
      underway.push({ item, result });
      const first = underway.length >= width ? underway.shift() : undefined;
      if (first) yield [first.item, await first.result];
    }
    for (let first = underway.shift(); first; first = underway.shift()) {
      signal?.throwIfAborted();
      yield [first.item, await first.result];
    }
  } finally {
    await Promise.allSettled(underway.map(({ result }) => result));
  }
}
