import type { Presence, Reported } from '@flotilla/protocol';
import type { Transaction } from 'kysely';
import type { Clock } from '../clock.ts';
import { persist } from '../db/retry.ts';
import type { Database, Tables } from '../db/schema.ts';
import { ControllerError } from '../errors.ts';
import type { Outbox } from '../outbox.ts';
import type { Device, Registry } from '../registry.ts';
import { parseSelection } from '../selection.ts';
import type { NewEvent, Timeline, TimelineEvent } from '../timeline.ts';
import { type Candidate, planRollout, type RolloutPlan } from './plan.ts';
import { isActive, type ReleaseRef, type Rollout, type RolloutEvent, type RolloutStep } from './state.ts';
import { stepRollout } from './step.ts';
import { insertRollout, loadActiveRollouts, updateRollout } from './store.ts';
import { storyOf } from './story.ts';

export interface EnginePorts {
  readonly db: Database;
  readonly registry: Registry;
  readonly timeline: Timeline;
  readonly outbox: Outbox;
  readonly clock: Clock;
  /** Aborted when the controller closes: ends the waiting for a database that is away. */
  readonly signal: AbortSignal;
}

export type RolloutRequest = RolloutPlan & { readonly to: string };

/**
 * Carries out what the reducer decides. One event at a time: each is one transaction that holds the decision and the
 * desired documents that follow from it, so a kill at any moment leaves both or neither.
 */
export class RolloutEngine {
  private readonly ports: EnginePorts;
  private readonly active = new Map<string, Rollout>();
  /** Newest report per `device/name`, to tell duplicates without asking the database. */
  private readonly newest = new Map<string, { session: number; counter: number }>();
  private turn: Promise<unknown> = Promise.resolve();

  constructor(ports: EnginePorts) {
    this.ports = ports;
  }

  /** Takes up what an earlier controller left. */
  async takeUp(): Promise<void> {
    const { db, clock } = this.ports;
    for (const { device, name, session, counter } of await db
      .selectFrom('reports')
      .select(['device', 'name', 'session', 'counter'])
      .execute())
      this.newest.set(`${device}/${name}`, { session, counter });
    for (const rollout of await loadActiveRollouts(db)) this.active.set(rollout.id, rollout);
    await this.inTurn(() => this.step({ kind: 'restarted', atMs: clock.now(), online: this.onlineDevices() }));
  }

  /** @throws {ControllerError} `controller/selection`, `controller/no-devices`, `controller/rollout-active` */
  create(request: RolloutRequest): Promise<Rollout> {
    return this.inTurn(async () => {
      const { registry, clock } = this.ports;
      const selected = registry.all().filter(parseSelection(request.to));
      if (selected.length === 0)
        throw new ControllerError('controller/no-devices', `no device is ${request.to}`, { where: 'to' });
      const rival = [...this.active.values()].find(({ release }) => release.name === request.release.name);
      if (rival !== undefined)
        throw new ControllerError(
          'controller/rollout-active',
          `rollout ${rival.id} of ${rival.release.name} is running`,
          {
            where: rival.id,
            hint: `wait for it, or: flotilla rollout abort ${rival.id}`,
          },
        );
      const candidates = await this.candidates(request.release.name, selected);
      const planned = planRollout(request, candidates, clock.now());
      const step = stepRollout(planned, { kind: 'started', atMs: clock.now() });
      const created = storyOf.created(planned, request.to);
      await this.commit([{ before: planned, step }], [created], (trx) =>
        insertRollout(trx, { rollout: planned, selection: request.to, canary: request.canary }),
      );
      return step.state;
    });
  }

  /** What a person wants of it. @returns false if the rollout has ended already */
  steer(id: string, kind: 'paused' | 'resumed' | 'aborted'): Promise<boolean> {
    return this.inTurn(async () => {
      const rollout = this.active.get(id);
      if (rollout === undefined) return false;
      const step = stepRollout(rollout, { kind, atMs: this.ports.clock.now() });
      if (step.state !== rollout) await this.commit([{ before: rollout, step }]);
      return true;
    });
  }

  /** A device's birth or will. One of an older session is ignored: it was overtaken. */
  presence(id: string, presence: Presence): Promise<void> {
    return this.inTurn(async () => {
      const { registry, clock } = this.ports;
      const device = registry.get(id);
      if (device === undefined || presence.session < device.session) return;
      const atMs = clock.now();
      const next: Device = {
        ...device,
        online: presence.online,
        session: presence.session,
        seenAtMs: atMs,
        birth: presence.birth ?? device.birth,
      };
      const told = device.online !== next.online || (next.online && next.session !== device.session);
      await this.step(
        { kind: 'presence', atMs, device: id, online: presence.online },
        told ? [storyOf.presence(next, atMs)] : [],
        (trx) => registry.update(trx, next),
      );
      registry.replace(next);
    });
  }

  /**
   * Takes a device out of the fleet and of every rollout. Its documents are withdrawn; rollouts, telemetry and timeline
   * keep what they say of it.
   * @returns it as it was, with the names of its models; undefined if there is none
   */
  remove(id: string): Promise<{ readonly device: Device; readonly names: readonly string[] } | undefined> {
    return this.inTurn(async () => {
      const { db, registry, clock, outbox } = this.ports;
      const device = registry.get(id);
      if (device === undefined) return undefined;
      const atMs = clock.now();
      const reports = await db.selectFrom('reports').select('name').where('device', '=', id).execute();
      await this.step({ kind: 'removed', atMs, device: id }, [storyOf.removed(device, atMs)], (trx) =>
        forget(trx, id, atMs),
      );
      registry.remove(device);
      const names = reports.map(({ name }) => name);
      for (const name of names) this.newest.delete(`${id}/${name}`);
      outbox.send();
      return { device, names };
    });
  }

  reported(id: string, report: Reported): Promise<void> {
    return this.inTurn(async () => {
      if (this.ports.registry.get(id) === undefined) return; // removed meanwhile
      const key = `${id}/${report.name}`;
      const seen = this.newest.get(key);
      const isNewer =
        seen === undefined ||
        report.session > seen.session ||
        (report.session === seen.session && report.counter > seen.counter);
      if (!isNewer) return;
      const atMs = this.ports.clock.now();
      await this.step(
        { kind: 'reported', atMs, device: id, report },
        [],
        (trx) => upsertReport(trx, id, report, atMs),
        report.name,
      );
      this.newest.set(key, { session: report.session, counter: report.counter });
    });
  }

  tick(): Promise<void> {
    return this.inTurn(() => this.step({ kind: 'tick', atMs: this.ports.clock.now() }));
  }

  /** Waits for the event at hand. */
  async close(): Promise<void> {
    await this.turn;
  }

  /** Feeds an event to every active rollout that it may concern. */
  private async step(
    event: RolloutEvent,
    events: readonly NewEvent[] = [],
    extra?: (trx: Transaction<Tables>) => Promise<void>,
    name?: string,
  ): Promise<void> {
    const steps = [...this.active.values()]
      .filter(({ release }) => name === undefined || release.name === name)
      .map((before) => ({ before, step: stepRollout(before, event) }))
      .filter(({ before, step }) => step.state !== before);
    if (steps.length > 0 || extra !== undefined) await this.commit(steps, events, extra);
  }

  private async commit(
    steps: readonly { readonly before: Rollout; readonly step: RolloutStep }[],
    events: readonly NewEvent[] = [],
    extra?: (trx: Transaction<Tables>) => Promise<void>,
  ): Promise<void> {
    const { db, timeline, outbox, clock, signal } = this.ports;
    const story = [...events, ...steps.flatMap(({ before, step }) => storyOf.step(before, step.state, clock.now()))];
    const told = await persist<readonly TimelineEvent[]>(
      db,
      async (trx) => {
        await extra?.(trx);
        for (const { before, step } of steps) {
          await updateRollout(trx, before, step.state);
          for (const effect of step.effects) await outbox.write(trx, step.state, effect);
        }
        return timeline.write(trx, story);
      },
      signal,
    );
    for (const { step } of steps) {
      if (isActive(step.state.phase)) this.active.set(step.state.id, step.state);
      else this.active.delete(step.state.id);
    }
    timeline.tell(told);
    if (steps.some(({ step }) => step.effects.length > 0)) outbox.send();
  }

  private async candidates(name: string, devices: readonly Device[]): Promise<readonly Candidate[]> {
    const { db } = this.ports;
    const rows = await db.selectFrom('desired').selectAll().where('name', '=', name).execute();
    const desired = new Map(rows.map((row) => [row.device, row]));
    // What a device holds that this controller never gave it (its database was made anew) is where it goes back to.
    const held = await db
      .selectFrom('reports')
      .innerJoin('releases', (join) =>
        join.onRef('releases.digest', '=', 'reports.loaded_digest').onRef('releases.name', '=', 'reports.name'),
      )
      .select(['reports.device', 'releases.version', 'releases.digest', 'reports.sequence'])
      .where('reports.name', '=', name)
      .where('reports.state', '=', 'committed')
      .execute();
    const committed = new Map(held.map((row) => [row.device, row]));
    const known = await this.knownSequences(name);
    return devices.map(({ id, online }) => ({
      device: id,
      online,
      sequence: Math.max(desired.get(id)?.sequence ?? 0, known.get(id) ?? 0),
      previous: release(name, desired.get(id)) ?? release(name, committed.get(id)) ?? null,
    }));
  }

  /** Sequences that devices have seen may be ahead of a database that was restored from a backup. */
  private async knownSequences(name: string): Promise<ReadonlyMap<string, number>> {
    const rows = await this.ports.db
      .selectFrom('reports')
      .select(['device', 'sequence'])
      .where('name', '=', name)
      .execute();
    return new Map(rows.map(({ device, sequence }) => [device, sequence]));
  }

  private onlineDevices(): ReadonlySet<string> {
    const online = this.ports.registry.all().filter((device) => device.online);
    return new Set(online.map(({ id }) => id));
  }

  private inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.turn.then(work);
    this.turn = result.catch(() => undefined);
    return result;
  }
}

function release(
  name: string,
  row: { readonly version: string | null; readonly digest: string | null } | undefined,
): ReleaseRef | undefined {
  if (row === undefined || row.version === null || row.digest === null) return undefined;
  return { name, version: row.version, digest: row.digest };
}

/** The sequences stay and grow, for a device of that name that comes back with what it had. */
async function forget(trx: Transaction<Tables>, device: string, atMs: number): Promise<void> {
  await trx.updateTable('devices').set({ removed_at: atMs, online: false }).where('id', '=', device).execute();
  await trx.deleteFrom('reports').where('device', '=', device).execute();
  await trx
    .updateTable('desired')
    .set((row) => ({
      sequence: row('sequence', '+', 1), // so that one being published now is not taken for this
      ...{ payload: new Uint8Array(), published: false, version: null, digest: null },
    }))
    .where('device', '=', device)
    .execute();
}

async function upsertReport(trx: Transaction<Tables>, device: string, report: Reported, atMs: number): Promise<void> {
  const row = {
    session: report.session,
    counter: report.counter,
    state: report.state,
    sequence: report.sequence,
    release_digest: report.releaseDigest,
    loaded_digest: report.loadedDigest,
    reason: report.reason ?? null,
    detail: report.detail.replaceAll('\0', ''), // PostgreSQL's text cannot hold it
    waiting: report.waiting ?? null,
    bytes_done: report.bytesDone,
    bytes_total: report.bytesTotal,
    received_at: atMs,
  };
  await trx
    .insertInto('reports')
    .values({ device, name: report.name, ...row })
    .onConflict((conflict) => conflict.columns(['device', 'name']).doUpdateSet(row))
    .execute();
}
