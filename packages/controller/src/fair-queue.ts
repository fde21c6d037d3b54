export interface FairQueueOptions<T> {
  /** Items under way at once, in all; of one key it is always one. */
  readonly concurrency: number;
  /** Items waiting per key. */
  readonly limit: number;
  /** What gives way when a key's queue is full. */
  readonly whenFull: 'drop-oldest' | 'drop-newest';
  readonly work: (item: T, key: string) => Promise<void>;
  /** An item that `work` rejected. */
  readonly onError: (error: unknown, item: T, key: string) => void;
}

/** Takes turns between keys (devices), one item each: however much one of them sends, the others wait one item longer. */
export class FairQueue<T> {
  dropped = 0;
  private readonly options: FairQueueOptions<T>;
  private readonly waiting = new Map<string, T[]>(); // in the order of whose turn it is
  private readonly busy = new Set<string>();
  private idle: (() => void)[] = [];
  private closed = false;

  constructor(options: FairQueueOptions<T>) {
    this.options = options;
  }

  push(key: string, item: T): void {
    if (this.closed) return;
    const queue = this.waiting.get(key);
    if (queue === undefined) this.waiting.set(key, [item]);
    else if (queue.length < this.options.limit) queue.push(item);
    else {
      this.dropped++;
      if (this.options.whenFull === 'drop-newest') return;
      queue.shift();
      queue.push(item);
    }
    this.pump();
  }

  /** Waits until nothing is waiting or under way. */
  async drained(): Promise<void> {
    if (this.waiting.size > 0 || this.busy.size > 0) await new Promise<void>((resolve) => this.idle.push(resolve));
  }

  /** Forgets what waits, and waits for what is under way. */
  async close(): Promise<void> {
    this.closed = true;
    this.waiting.clear();
    await this.drained();
  }

  private pump(): void {
    for (const [key, queue] of this.waiting) {
      if (this.busy.size >= this.options.concurrency) return;
      if (this.busy.has(key)) continue;
      const item = queue.shift();
      this.waiting.delete(key);
      if (queue.length > 0) this.waiting.set(key, queue); // to the end of the line
      if (item !== undefined) void this.run(key, item);
    }
  }

  private async run(key: string, item: T): Promise<void> {
    this.busy.add(key);
    try {
      await this.options.work(item, key);
    } catch (error) {
      this.options.onError(error, item, key);
    }
    this.busy.delete(key);
    this.pump();
    if (this.waiting.size === 0 && this.busy.size === 0) for (const resolve of this.idle.splice(0)) resolve();
  }
}
