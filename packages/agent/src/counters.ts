import { join } from 'node:path';
import type { Clock, Disk } from './ports.ts';
import { type Document, document } from './store/document.ts';

/** Reports that may be numbered between two writes to the disk. */
const RESERVE = 512;

interface Kept {
  readonly session: number;
  readonly instance: number;
  readonly counter: number;
}

/** Numbers that only grow, across restarts and wrong clocks: sessions, instances, and the counter of reports. */
export class Counters {
  /** Of this process: later starts have a higher one. The low bits tell apart two that start in one millisecond. */
  readonly instance: number;
  private readonly file: Document;
  private readonly clock: Clock;
  private lastSession: number;
  private counter: number;
  private reserved: number;
  private writing: Promise<void> = Promise.resolve();

  private constructor(file: Document, clock: Clock, kept: Kept, instance: number) {
    this.file = file;
    this.clock = clock;
    this.instance = instance;
    this.lastSession = kept.session;
    this.counter = kept.counter;
    this.reserved = kept.counter;
  }

  static async open(disk: Disk, dataDir: string, clock: Clock, random: () => number): Promise<Counters> {
    const file = document(disk, join(dataDir, 'counters'));
    const found = await file.read();
    const kept = parse(typeof found === 'object' ? found.body : undefined);
    const fresh = Math.max(0, Math.floor(clock.nowMs())) * 1024 + Math.floor(random() * 1024);
    const counters = new Counters(file, clock, kept, Math.max(fresh, kept.instance + 1));
    // Two copies of one data folder would count alike; where the file was lost, the clock takes the count past it.
    if (typeof found !== 'object') counters.counter = counters.reserved = Math.max(0, Math.floor(clock.nowMs()));
    await counters.reserve();
    return counters;
  }

  /** For a new connection. @param above the highest seen on the broker */
  async nextSession(above: number): Promise<number> {
    this.lastSession = Math.max(Math.floor(this.clock.nowMs()), this.lastSession + 1, above + 1);
    await this.reserve();
    return this.lastSession;
  }

  nextReport(): number {
    this.counter++;
    if (this.counter > this.reserved - RESERVE / 2) void this.reserve().catch(() => undefined); // tried again at the next
    return this.counter;
  }

  private reserve(): Promise<void> {
    const write = async (): Promise<void> => {
      const reserved = this.counter + RESERVE;
      const kept: Kept = { session: this.lastSession, instance: this.instance, counter: reserved };
      await this.file.write(kept);
      this.reserved = reserved;
    };
    this.writing = this.writing.then(write, write);
    return this.writing;
  }
}

function parse(body: unknown): Kept {
  const { session, instance, counter } = (body ?? {}) as { readonly [key: string]: unknown };
  const whole = (value: unknown): number => (typeof value === 'number' && Number.isSafeInteger(value) ? value : 0);
  return { session: whole(session), instance: whole(instance), counter: whole(counter) };
}
