import { Readable } from 'node:stream';
import { openPack } from '@flotilla/pack';
import { eventsOf } from './client-events.ts';
import { ControllerError, type ControllerErrorCode } from './errors.ts';
import type { TelemetryView } from './telemetry.ts';
import type { TimelineEvent } from './timeline.ts';
import type { Role } from './tokens.ts';
import type { AnswerView, DeviceView, Identity, PackView, ReleaseView, RolloutView } from './views.ts';

export interface ClientOptions {
  /** `http://host:port`. */
  readonly url: string;
  readonly token: string;
  /** For one request; uploads, calls and event streams have none. Default 30 s. */
  readonly timeoutMs?: number | undefined;
}

export interface NewDevice {
  readonly board: string;
  readonly device?: string | undefined;
  readonly fleet?: string | undefined;
  readonly name?: string | undefined;
  readonly tags?: readonly string[] | undefined;
}

export interface NewRollout {
  /** `name@version`. */
  readonly release: string;
  /** A selection; default `all`. */
  readonly to?: string | undefined;
  /** How many devices go first; default 1. */
  readonly canary?: number | undefined;
  /** Default 10 s. */
  readonly healthWindowMs?: number | undefined;
  /** Default 10 min. */
  readonly stateDeadlineMs?: number | undefined;
}

export interface NewCall {
  readonly name: string;
  readonly prompt?: string | undefined;
  readonly maxTokens?: number | undefined;
  /** Above 0: tokens are drawn. */
  readonly temperature?: number | undefined;
  readonly seed?: number | undefined;
  /** JSON Schema, as text, that the answer is valid against. */
  readonly schema?: string | undefined;
  /** One of those beside the model in its pack; default: the model alone. */
  readonly adapter?: string | undefined;
  /** Runs the golden inputs for so long instead, and sends telemetry. */
  readonly benchMs?: number | undefined;
  readonly timeoutMs?: number | undefined;
}

const ENDED = new Set(['done', 'stopped', 'aborted']);
/** What may pass by itself. */
const AWAY = new Set(['controller/unreachable', 'controller/database']);
const RETRY_MS = 500;

/**
 * The HTTP API as functions. All throw {@link ControllerError} with the code that the controller gave, or
 * `controller/unreachable`.
 */
export class ControllerClient {
  private readonly url: string;
  private readonly token: string;
  private readonly timeoutMs: number;

  constructor({ url, token, timeoutMs = 30_000 }: ClientOptions) {
    this.url = url.replace(/\/+$/, '');
    this.token = token;
    this.timeoutMs = timeoutMs;
  }

  /** Makes a device known. @returns its identity, with the secret that is shown this once */
  provision(device: NewDevice): Promise<Identity> {
    return this.post('/v1/devices', device);
  }

  async devices(): Promise<readonly DeviceView[]> {
    return (await this.get<{ devices: readonly DeviceView[] }>('/v1/devices')).devices;
  }

  device(id: string): Promise<DeviceView> {
    return this.get(`/v1/devices/${encodeURIComponent(id)}`);
  }

  /** Takes a device out of the fleet: its identity is accepted no more. */
  removeDevice(id: string): Promise<DeviceView> {
    return this.request('DELETE', `/v1/devices/${encodeURIComponent(id)}`);
  }

  tag(id: string, tags: readonly string[]): Promise<DeviceView> {
    return this.request('PUT', `/v1/devices/${encodeURIComponent(id)}/tags`, { tags });
  }

  async telemetry(id: string): Promise<readonly TelemetryView[]> {
    const path = `/v1/devices/${encodeURIComponent(id)}/telemetry`;
    return (await this.get<{ telemetry: readonly TelemetryView[] }>(path)).telemetry;
  }

  /** Asks a model on a device, or lets it measure itself. */
  call(id: string, call: NewCall): Promise<AnswerView> {
    const timeoutMs = call.timeoutMs ?? (call.benchMs ?? 0) + 60_000;
    return this.request(
      'POST',
      `/v1/devices/${encodeURIComponent(id)}/call`,
      { ...call, timeoutMs },
      timeoutMs + 10_000,
    );
  }

  /** Verifies a pack, uploads it unless the controller has it, and makes it a release. */
  async publish(packPath: string, name: string, version: string): Promise<ReleaseView> {
    const pack = await openPack(packPath);
    try {
      const { digest } = pack;
      if (!(await this.hasPack(digest))) await this.upload(pack.tar());
      return await this.post('/v1/releases', { name, version, digest });
    } finally {
      await pack.close();
    }
  }

  /** @param tar a pack as one tar */
  async upload(tar: AsyncIterable<Uint8Array>): Promise<PackView> {
    const body = Readable.toWeb(Readable.from(tar)) as ReadableStream<Uint8Array>;
    const headers = { ...this.headers(), 'content-type': 'application/x-tar' };
    const init = { method: 'POST', headers, body, duplex: 'half' } as RequestInit;
    return (await answerOf(await this.fetch('/v1/packs', init))) as PackView;
  }

  async releases(): Promise<readonly ReleaseView[]> {
    return (await this.get<{ releases: readonly ReleaseView[] }>('/v1/releases')).releases;
  }

  createRollout(rollout: NewRollout): Promise<RolloutView> {
    return this.post('/v1/rollouts', rollout);
  }

  /** The newest 100, newest first. */
  async rollouts(): Promise<readonly RolloutView[]> {
    return (await this.get<{ rollouts: readonly RolloutView[] }>('/v1/rollouts')).rollouts;
  }

  rollout(id: string): Promise<RolloutView> {
    return this.get(`/v1/rollouts/${encodeURIComponent(id)}`);
  }

  /** Nobody new is told, no deadline runs out, and no failure ends it, until it is resumed or aborted. */
  pause(id: string): Promise<RolloutView> {
    return this.post(`/v1/rollouts/${encodeURIComponent(id)}/pause`, {});
  }

  /** Goes on without the devices that have failed by now. */
  resume(id: string): Promise<RolloutView> {
    return this.post(`/v1/rollouts/${encodeURIComponent(id)}/resume`, {});
  }

  abort(id: string): Promise<RolloutView> {
    return this.post(`/v1/rollouts/${encodeURIComponent(id)}/abort`, {});
  }

  /**
   * A rollout as it moves: its state now, then after each change, until it has ended. Outlives restarts of the
   * controller and of the network between.
   */
  async *watch(id: string, options?: { readonly signal?: AbortSignal | undefined }): AsyncGenerator<RolloutView> {
    const signal = options?.signal;
    let last = '';
    for (let misses = 0; ; misses++) {
      try {
        for await (const view of this.views(id, signal)) {
          misses = 0;
          const text = JSON.stringify(view);
          if (text !== last) yield view;
          last = text;
          if (ENDED.has(view.phase)) return;
        }
      } catch (error) {
        const isAway = error instanceof ControllerError && AWAY.has(error.code);
        if (signal?.aborted === true) return;
        if (!isAway || misses > 120) throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }

  /** What happens, as it happens; with `after`, what happened since that event first. Ends when the connection does. */
  async *events(options?: {
    readonly after?: number | undefined;
    readonly rollout?: string | undefined;
    readonly signal?: AbortSignal | undefined;
  }): AsyncGenerator<TimelineEvent> {
    for await (const event of eventsOf(await this.openEvents(options))) if (event !== undefined) yield event;
  }

  createToken(role: Role, label: string): Promise<{ readonly token: string; readonly role: Role }> {
    return this.post('/v1/tokens', { role, label });
  }

  /** Counters of what was ignored, dropped or refused. */
  statistics(): Promise<{ readonly [name: string]: unknown }> {
    return this.get('/v1/statistics');
  }

  /** One connection's worth of views: one at once, one after each burst of events or heartbeat. */
  private async *views(id: string, signal: AbortSignal | undefined): AsyncGenerator<RolloutView> {
    const stream = await this.openEvents({ rollout: id, signal });
    yield await this.rollout(id);
    for await (const _ of eventsOf(stream)) yield await this.rollout(id);
  }

  private async openEvents(options?: {
    readonly after?: number | undefined;
    readonly rollout?: string | undefined;
    readonly signal?: AbortSignal | undefined;
  }): Promise<ReadableStream<Uint8Array>> {
    const query = new URLSearchParams();
    if (options?.after !== undefined) query.set('after', String(options.after));
    if (options?.rollout !== undefined) query.set('rollout', options.rollout);
    const init: RequestInit = { headers: this.headers() };
    if (options?.signal !== undefined) init.signal = options.signal;
    const response = await this.fetch(`/v1/events?${query.toString()}`, init);
    if (!response.ok || response.body === null) await answerOf(response);
    return response.body as ReadableStream<Uint8Array>;
  }

  private async hasPack(digest: string): Promise<boolean> {
    try {
      await this.get(`/v1/packs/${digest}`);
      return true;
    } catch (error) {
      if (error instanceof ControllerError && error.code === 'controller/not-found') return false;
      throw error;
    }
  }

  private get<T>(path: string): Promise<T> {
    return this.request('GET', path);
  }

  private post<T>(path: string, body: object): Promise<T> {
    return this.request('POST', path, body);
  }

  private async request<T>(method: string, path: string, body?: object, timeoutMs = this.timeoutMs): Promise<T> {
    const headers = { ...this.headers(), 'content-type': 'application/json' };
    const init: RequestInit = { method, headers, signal: AbortSignal.timeout(timeoutMs) };
    if (body !== undefined) init.body = JSON.stringify(body);
    return (await answerOf(await this.fetch(path, init))) as T;
  }

  private async fetch(path: string, init: RequestInit): Promise<Response> {
    try {
      return await fetch(`${this.url}${path}`, init);
    } catch (cause) {
      throw unreachable(this.url, cause);
    }
  }

  private headers(): { readonly authorization: string } {
    return { authorization: `Bearer ${this.token}` };
  }
}

async function answerOf(response: Response): Promise<unknown> {
  const value = await response.json().catch((cause: unknown) => {
    throw unreachable(response.url, cause);
  });
  if (response.ok) return value;
  const { code, message, where, hint } = (value as { error?: Partial<ControllerError> }).error ?? {};
  throw new ControllerError(
    (code ?? 'controller/internal') as ControllerErrorCode,
    message ?? `HTTP ${response.status}`,
    {
      where,
      hint,
    },
  );
}

function unreachable(url: string, cause: unknown): ControllerError {
  const inner = cause instanceof Error ? (cause.cause ?? cause) : cause;
  const { code, message } = inner as { code?: string; message?: string };
  return new ControllerError('controller/unreachable', `${url}: ${code ?? message ?? 'no connection'}`, {
    where: url,
    cause,
    hint: 'check the address, and that the controller runs',
  });
}
