import { randomUUID } from 'node:crypto';
import type { PrivateKey, PublicKey } from '@flotilla/pack';
import { isName, topicFor } from '@flotilla/protocol';
import type { CallRequest, Calls } from './calls.ts';
import type { Link } from './broker/link.ts';
import type { Clock } from './clock.ts';
import { persist } from './db/retry.ts';
import type { Database, DeviceRow } from './db/schema.ts';
import { ControllerError } from './errors.ts';
import type { PackStore } from './pack-store.ts';
import { Queries } from './queries.ts';
import type { Registry } from './registry.ts';
import type { RolloutEngine } from './rollout/engine.ts';
import { hashSecret, newSecret } from './secrets.ts';
import { telemetryOf, type TelemetryView } from './telemetry.ts';
import type { NewEvent, Timeline } from './timeline.ts';
import type { Role, Tokens } from './tokens.ts';
import type { AnswerView, DeviceView, Identity, PackView, ReleaseView, RolloutView } from './views.ts';

export interface ServicePorts {
  readonly db: Database;
  readonly registry: Registry;
  readonly timeline: Timeline;
  readonly engine: RolloutEngine;
  readonly packs: PackStore;
  readonly tokens: Tokens;
  readonly calls: Calls;
  readonly link: Link;
  readonly key: PrivateKey;
  readonly trustedKeys: readonly PublicKey[];
  /** What devices are told to connect to. */
  readonly brokerUrl: string;
  readonly maxPackBytes: number;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

export interface ProvisionRequest {
  /** The id to use; made up if absent. */
  readonly device?: string | undefined;
  readonly board: string;
  readonly fleet: string;
  readonly name?: string | undefined;
  readonly tags: readonly string[];
}

export interface CreateRollout {
  /** `name@version`. */
  readonly release: string;
  readonly to: string;
  readonly canary: number;
  readonly healthWindowMs: number;
  readonly stateDeadlineMs: number;
}

/** What the controller does for people and programs; the HTTP API is a thin face of it. */
export class Service {
  readonly queries: Queries;
  private readonly ports: ServicePorts;
  /** Ids of devices that are being made. */
  private readonly taken = new Set<string>();

  constructor(ports: ServicePorts) {
    this.ports = ports;
    this.queries = new Queries(ports.db, ports.registry);
  }

  /** @throws {ControllerError} `controller/conflict` if the id is taken */
  async provision(request: ProvisionRequest): Promise<Identity> {
    const { registry } = this.ports;
    this.requireTrustedKeys();
    const isTaken = (id: string): boolean => registry.get(id) !== undefined || this.taken.has(id);
    const id = request.device ?? newDeviceId(request.name, isTaken);
    if (isTaken(id))
      throw new ControllerError('controller/conflict', `device ${id} is there already`, {
        where: id,
        hint: 'choose another id, or leave it out',
      });
    this.taken.add(id);
    try {
      return await this.makeDevice(id, request);
    } finally {
      this.taken.delete(id);
    }
  }

  private async makeDevice(id: string, request: ProvisionRequest): Promise<Identity> {
    const { db, registry, clock, key, trustedKeys, brokerUrl, signal } = this.ports;
    const secret = newSecret();
    const row: DeviceRow = {
      id,
      fleet: request.fleet,
      board: request.board,
      name: request.name ?? id,
      tags: JSON.stringify(request.tags),
      secret_hash: hashSecret(secret),
      online: false,
      session: 0,
      birth: null,
      created_at: clock.now(),
      seen_at: null,
      removed_at: null,
    };
    const told = await persist(
      db,
      async (trx) => {
        await registry.insert(trx, row);
        return this.ports.timeline.write(trx, [
          this.event('device.provisioned', id, { board: row.board, name: row.name }),
        ]);
      },
      signal,
    );
    registry.put(row);
    this.ports.timeline.tell(told);
    return {
      device: id,
      fleet: row.fleet,
      board: row.board,
      brokerUrl,
      secret,
      controllerKey: key.publicKey.pem,
      trustedPackKeys: trustedKeys.map(({ pem }) => pem),
    };
  }

  async device(id: string): Promise<DeviceView> {
    return found(await this.queries.device(id), `device ${id}`);
  }

  async setTags(id: string, tags: readonly string[]): Promise<DeviceView> {
    const { db, registry, signal } = this.ports;
    const device = found(registry.get(id), `device ${id}`);
    await persist(db, (trx) => registry.update(trx, { ...device, tags }), signal);
    registry.replace({ ...(registry.get(id) ?? device), tags });
    return this.device(id);
  }

  /** Its identity is accepted no more. @throws {ControllerError} `controller/not-found`, the second time too */
  async removeDevice(id: string): Promise<DeviceView> {
    const { engine, link } = this.ports;
    const view = await this.device(id);
    const { device, names } = found(await engine.remove(id), `device ${id}`);
    await link.cut?.(id);
    const address = { fleet: device.fleet, device: id };
    const topics = [topicFor(address, 'presence'), ...names.map((name) => topicFor(address, 'reported', name))];
    for (const topic of topics) await link.publish(topic, new Uint8Array(), { retain: true });
    return { ...view, online: false };
  }

  async telemetry(id: string): Promise<readonly TelemetryView[]> {
    found(this.ports.registry.fleetOf(id), `device ${id}`);
    return telemetryOf(this.ports.db, id);
  }

  async call(id: string, request: CallRequest): Promise<AnswerView> {
    const answer = await this.ports.calls.call(id, request);
    return {
      digest: answer.digest,
      text: answer.text,
      tokens: answer.tokens,
      timeToFirstTokenMs: answer.timeToFirstTokenUs / 1000,
      tokensPerSecond: answer.tokensPerSecond,
    };
  }

  /** Takes a pack in; one that is there already is no error. */
  async addPack(content: AsyncIterable<Uint8Array>): Promise<PackView> {
    const { db, packs, clock, signal, maxPackBytes } = this.ports;
    this.requireTrustedKeys();
    const stored = await packs.add(content, maxPackBytes);
    const { digest, name, task } = stored;
    const bytes = stored.blobs.reduce((sum, blob) => sum + blob.bytes, 0);
    const row = { digest, name, task, bytes, manifest_bytes: stored.manifestBytes, signed_by: stored.signedBy ?? null };
    await persist(
      db,
      async (trx) => {
        await trx
          .insertInto('packs')
          .values({ ...row, created_at: clock.now() })
          .onConflict((conflict) => conflict.doNothing())
          .execute();
        await trx
          .insertInto('pack_blobs')
          .values(stored.blobs.map((blob) => ({ pack: digest, ...blob })))
          .onConflict((conflict) => conflict.doNothing())
          .execute();
      },
      signal,
    );
    return { digest, name, task, bytes, signedBy: row.signed_by };
  }

  async pack(digest: string): Promise<PackView> {
    return found(await this.queries.pack(digest), `pack ${digest}`);
  }

  /** A release names a pack for ever; the same again is no error. @throws {ControllerError} `controller/conflict` */
  async publishRelease(name: string, version: string, digest: string): Promise<ReleaseView> {
    const { db, clock, signal, timeline } = this.ports;
    await this.pack(digest);
    const known = await this.queries.release(name, version);
    if (known?.digest === digest) return known;
    if (known !== undefined)
      throw new ControllerError('controller/conflict', `${name}@${version} is another pack: ${known.digest}`, {
        where: `${name}@${version}`,
        hint: 'publish it under a new version',
      });
    const createdAtMs = clock.now();
    const told = await persist(
      db,
      async (trx) => {
        await trx
          .insertInto('releases')
          .values({ name, version, digest, created_at: createdAtMs })
          .onConflict((conflict) => conflict.doNothing())
          .execute();
        return timeline.write(trx, [this.event('release.published', null, { name, version, digest })]);
      },
      signal,
    );
    timeline.tell(told);
    return { name, version, digest, createdAtMs };
  }

  async createRollout(request: CreateRollout): Promise<RolloutView> {
    const at = request.release.lastIndexOf('@');
    const [name, version] = [request.release.slice(0, at), request.release.slice(at + 1)];
    const release = found(await this.queries.release(name, version), `release ${request.release}`);
    const { id } = await this.ports.engine.create({
      id: `r-${randomUUID().slice(0, 13)}`,
      release: { name, version, digest: release.digest },
      to: request.to,
      canary: request.canary,
      healthWindowMs: request.healthWindowMs,
      stateDeadlineMs: request.stateDeadlineMs,
    });
    return this.rollout(id);
  }

  async rollout(id: string): Promise<RolloutView> {
    return found(await this.queries.rollout(id), `rollout ${id}`);
  }

  /** Again is no error. @throws {ControllerError} `controller/not-found`, `controller/rollout-ended` */
  pauseRollout(id: string): Promise<RolloutView> {
    return this.steer(id, 'paused');
  }

  /** Again is no error. @throws {ControllerError} `controller/not-found`, `controller/rollout-ended` */
  resumeRollout(id: string): Promise<RolloutView> {
    return this.steer(id, 'resumed');
  }

  async abortRollout(id: string): Promise<RolloutView> {
    await this.rollout(id);
    await this.ports.engine.steer(id, 'aborted');
    return this.rollout(id);
  }

  async createToken(role: Role, label: string): Promise<{ readonly token: string; readonly role: Role }> {
    return { token: await this.ports.tokens.create(role, label), role };
  }

  private async steer(id: string, kind: 'paused' | 'resumed'): Promise<RolloutView> {
    const { phase } = await this.rollout(id);
    if (!(await this.ports.engine.steer(id, kind)))
      throw new ControllerError('controller/rollout-ended', `rollout ${id} has ended: ${phase}`, { where: id });
    return this.rollout(id);
  }

  private requireTrustedKeys(): void {
    if (this.ports.trustedKeys.length === 0)
      throw new ControllerError('controller/no-trusted-keys', 'this controller trusts no pack key yet', {
        hint: 'put a flotilla.pub into `trusted` in its data folder, or name one with --trust, and start it again',
      });
  }

  private event(kind: NewEvent['kind'], device: string | null, data: NewEvent['data']): NewEvent {
    return { atMs: this.ports.clock.now(), kind, device, rollout: null, data };
  }
}

function found<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new ControllerError('controller/not-found', `there is no ${what}`, { where: what });
  return value;
}

/** The device's name where it can be an id and is free, else a random one. */
function newDeviceId(name: string | undefined, isTaken: (id: string) => boolean): string {
  if (name !== undefined && isName(name) && !isTaken(name)) return name;
  return `d-${randomUUID().slice(0, 13)}`;
}
