import type { Insertable, Transaction } from 'kysely';
import type { Database, EventRow, Tables } from './db/schema.ts';

export type TimelineKind =
  | 'device.provisioned'
  | 'device.removed'
  | 'device.online'
  | 'device.offline'
  | 'release.published'
  | 'rollout.created'
  | 'rollout.phase'
  | 'rollout.paused'
  | 'rollout.resumed'
  | 'rollout.device'
  | 'telemetry';

/** Something that happened, as people and `GET /v1/events` see it. */
export interface TimelineEvent {
  readonly id: number;
  readonly atMs: number;
  readonly kind: TimelineKind;
  readonly device: string | null;
  readonly rollout: string | null;
  readonly data: { readonly [key: string]: unknown };
}

export type NewEvent = Omit<TimelineEvent, 'id'>;
type Listener = (event: TimelineEvent) => void;

/** Older events than this many are dropped. */
const KEPT_EVENTS = 100_000;
const MAX_LISTENERS = 256;

/** The story so far, in the database, and its next chapters as they are committed. */
export class Timeline {
  private readonly db: Database;
  private readonly listeners = new Set<Listener>();

  constructor(db: Database) {
    this.db = db;
  }

  /** Writes events in a transaction. @returns them with ids, to be given to `tell` after the commit */
  async write(trx: Transaction<Tables>, events: readonly NewEvent[]): Promise<readonly TimelineEvent[]> {
    if (events.length === 0) return [];
    const rows: Insertable<EventRow>[] = events.map(({ atMs, kind, device, rollout, data }) => ({
      at: atMs,
      kind,
      device,
      rollout,
      data: JSON.stringify(data),
    }));
    const ids = await trx.insertInto('events').values(rows).returning('id').execute();
    return events.map((event, index) => ({ ...event, id: ids[index]?.id ?? 0 }));
  }

  tell(events: readonly TimelineEvent[]): void {
    for (const event of events) for (const listener of this.listeners) listener(event);
  }

  /** @returns a function that ends it, or undefined when too many listen already */
  listen(listener: Listener): (() => void) | undefined {
    if (this.listeners.size >= MAX_LISTENERS) return undefined;
    this.listeners.add(listener);
    return () => void this.listeners.delete(listener);
  }

  async since(
    after: number,
    filter: { rollout?: string | undefined; limit: number },
  ): Promise<readonly TimelineEvent[]> {
    let query = this.db.selectFrom('events').selectAll().where('id', '>', after).orderBy('id').limit(filter.limit);
    if (filter.rollout !== undefined) query = query.where('rollout', '=', filter.rollout);
    return (await query.execute()).map((row) => ({
      id: row.id,
      atMs: row.at,
      kind: row.kind as TimelineKind,
      device: row.device,
      rollout: row.rollout,
      data: JSON.parse(row.data) as TimelineEvent['data'],
    }));
  }

  async newest(): Promise<number> {
    const row = await this.db
      .selectFrom('events')
      .select(({ fn }) => fn.max('id').as('id'))
      .executeTakeFirst();
    return row?.id ?? 0;
  }

  async prune(): Promise<void> {
    const newest = await this.newest();
    await this.db
      .deleteFrom('events')
      .where('id', '<=', newest - KEPT_EVENTS)
      .execute();
  }
}
