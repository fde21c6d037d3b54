import { FetchRequest, Reported, Telemetry } from '@flotilla/protocol';
import { join } from 'node:path';
import type { Counters } from './counters.ts';
import type { ReportBody } from './mind/event.ts';
import type { Piece } from './mind/state.ts';
import type { Clock, Disk, Link, Measured } from './ports.ts';

/** The last report of each model, for `agentStatus`. */
export interface Status {
  readonly device: string;
  readonly board: string;
  readonly pid: number;
  readonly online: boolean;
  readonly session: number;
  readonly updatedAtMs: number;
  readonly models: readonly Reported[];
}

/** Numbers what the device says, sends it, and keeps a copy for people on the device. */
export class Reporter {
  private readonly link: Link;
  private readonly counters: Counters;
  private readonly clock: Clock;
  private readonly write: (status: Status) => Promise<void>;
  private readonly who: { readonly device: string; readonly board: string };
  private readonly last = new Map<string, Reported>();
  private writing: Promise<void> | undefined;
  private again = false;

  constructor(
    ports: { readonly link: Link; readonly clock: Clock; readonly disk: Disk },
    counters: Counters,
    dataDir: string,
    who: { readonly device: string; readonly board: string },
  ) {
    this.link = ports.link;
    this.clock = ports.clock;
    this.counters = counters;
    this.who = who;
    const path = statusPath(dataDir);
    this.write = (status) => ports.disk.write(path, new TextEncoder().encode(`${JSON.stringify(status, null, 2)}\n`));
  }

  report(body: ReportBody): Reported {
    const reported: Reported = { ...pick(body), ...this.number(), atMs: Math.max(0, Math.floor(this.clock.nowMs())) };
    this.last.set(body.name, reported);
    this.link.publish({ kind: 'reported', name: body.name, payload: Reported.encode(reported) });
    this.note();
    return reported;
  }

  telemetry(name: string, digest: string, measured: Measured, failures: number): void {
    const { histogram: latencyHistogram, p50Us: _, ...figures } = measured;
    const payload = Telemetry.encode({ ...this.number(), ...figures, name, digest, latencyHistogram, failures });
    this.link.publish({ kind: 'telemetry', payload });
  }

  ask({ digest, offset, length }: Piece): void {
    const { session } = this.link;
    this.link.publish({ kind: 'fetch', payload: FetchRequest.encode({ session, digest, offset, length }) });
  }

  /** Writes the status file; what changes meanwhile is in the next. A disk that fails here harms nothing. */
  note(): void {
    this.again = true;
    this.writing ??= this.writeAll().finally(() => (this.writing = undefined));
  }

  async settled(): Promise<void> {
    await this.writing;
  }

  private async writeAll(): Promise<void> {
    while (this.again) {
      this.again = false;
      const { online, session } = this.link;
      const models = [...this.last.values()];
      const now = Math.floor(this.clock.nowMs());
      await this.write({ ...this.who, pid: process.pid, online, session, updatedAtMs: now, models }).catch(
        () => undefined,
      );
    }
  }

  private number(): { readonly session: number; readonly counter: number } {
    return { session: this.link.session, counter: this.counters.nextReport() };
  }
}

export const statusPath = (dataDir: string): string => join(dataDir, 'status.json');

function pick(body: ReportBody): ReportBody {
  const { name, state, sequence, releaseDigest, loadedDigest, reason, detail, waiting, bytesDone, bytesTotal } = body;
  return { name, state, sequence, releaseDigest, loadedDigest, reason, detail, waiting, bytesDone, bytesTotal };
}
