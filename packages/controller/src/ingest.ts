import {
  Answer,
  FetchRequest,
  parseTopic,
  Presence,
  ProtocolError,
  Reported,
  Telemetry,
  type Topic,
} from '@flotilla/protocol';
import { FairQueue } from './fair-queue.ts';
import type { Registry } from './registry.ts';

export interface IngestSinks {
  readonly registry: Registry;
  readonly presence: (device: string, presence: Presence) => Promise<void>;
  readonly reported: (device: string, report: Reported) => Promise<void>;
  readonly telemetry: (device: string, telemetry: Telemetry) => Promise<unknown>;
  readonly fetch: (device: string, request: FetchRequest) => void;
  readonly answer: (device: string, answer: Answer) => void;
  readonly onError: (error: unknown) => void;
}

type Status = { readonly presence: Presence } | { readonly report: Reported };

const REPORTS_PER_DEVICE = 64;
const WINDOWS_PER_DEVICE = 16;

/**
 * What devices send, sorted into bounded queues: a device that floods loses its own older messages, which newer ones
 * replace anyway, and takes no one else's turn. What cannot be read is ignored and counted.
 */
export class Ingest {
  /** Messages that were ignored, by the code of the reason. */
  readonly ignored = new Map<string, number>();
  private readonly sinks: IngestSinks;
  private readonly statuses: FairQueue<Status>;
  private readonly windows: FairQueue<Telemetry>;

  constructor(sinks: IngestSinks) {
    this.sinks = sinks;
    const { onError } = sinks;
    this.statuses = new FairQueue<Status>({
      concurrency: 8, // the engine takes them one by one; this many transactions' worth of patience
      limit: REPORTS_PER_DEVICE,
      whenFull: 'drop-oldest',
      work: (status, device) =>
        'presence' in status ? sinks.presence(device, status.presence) : sinks.reported(device, status.report),
      onError,
    });
    this.windows = new FairQueue<Telemetry>({
      concurrency: 1,
      limit: WINDOWS_PER_DEVICE,
      whenFull: 'drop-oldest',
      work: async (window, device) => void (await sinks.telemetry(device, window)),
      onError: (error) => this.ignore(error instanceof Error ? 'telemetry' : 'unknown'),
    });
  }

  get dropped(): number {
    return this.statuses.dropped + this.windows.dropped;
  }

  readonly receive = (text: string, payload: Uint8Array): void => {
    try {
      const topic = parseTopic(text);
      if (this.sinks.registry.get(topic.device)?.fleet !== topic.fleet) return this.ignore('unknown-device');
      if (payload.length > 0) this.sort(topic, payload);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.ignore(error.code);
    }
  };

  /** Waits for the queues to run dry. */
  async drained(): Promise<void> {
    await Promise.all([this.statuses.drained(), this.windows.drained()]);
  }

  async close(): Promise<void> {
    await Promise.all([this.statuses.close(), this.windows.close()]);
  }

  private sort(topic: Topic, payload: Uint8Array): void {
    const { device } = topic;
    switch (topic.kind) {
      case 'presence':
        return this.statuses.push(device, { presence: Presence.decode(payload) });
      case 'reported': {
        const report = Reported.decode(payload);
        if (report.name !== topic.name) return this.ignore('protocol/topic');
        return this.statuses.push(device, { report });
      }
      case 'telemetry': {
        const window = Telemetry.decode(payload);
        // A view on the broker's buffer would keep all of that alive.
        const latencyHistogram = Uint8Array.from(window.latencyHistogram);
        return this.windows.push(device, { ...window, latencyHistogram });
      }
      case 'fetch':
        return this.sinks.fetch(device, FetchRequest.decode(payload));
      case 'answer':
        return this.sinks.answer(device, Answer.decode(payload));
      case 'desired':
      case 'call':
      case 'chunk':
        return this.ignore('protocol/topic');
    }
  }

  private ignore(why: string): void {
    this.ignored.set(why, (this.ignored.get(why) ?? 0) + 1);
  }
}
