import type { Birth, DeviceAddress } from '@flotilla/protocol';
import type { Transaction } from 'kysely';
import type { Database, DeviceRow, Tables } from './db/schema.ts';
import { hashSecret, matchesHash } from './secrets.ts';

export interface Device {
  readonly id: string;
  readonly fleet: string;
  readonly board: string;
  /** For people; the id if none was given. */
  readonly name: string;
  readonly tags: readonly string[];
  readonly online: boolean;
  /** Of the connection that was last told of; grows. */
  readonly session: number;
  readonly birth: Birth | null;
  readonly createdAtMs: number;
  readonly seenAtMs: number | null;
}

/** All devices, in memory beside the database: the broker asks at every CONNECT and cannot wait. */
export class Registry {
  private readonly devices = new Map<string, Device>();
  private readonly secrets = new Map<string, string>();
  /** Fleets of devices that were removed: what is retained for them is still to be cleared. */
  private readonly removed = new Map<string, string>();
  private readonly nobody = hashSecret('nobody');

  /** Everybody is offline until heard of: the connections of a controller that is gone are gone too. */
  static async load(db: Database): Promise<Registry> {
    const registry = new Registry();
    await db.updateTable('devices').set({ online: false }).where('online', '=', true).execute();
    for (const row of await db.selectFrom('devices').selectAll().orderBy('created_at').execute())
      if (row.removed_at === null) registry.put(row);
      else registry.removed.set(row.id, row.fleet);
    return registry;
  }

  get(id: string): Device | undefined {
    return this.devices.get(id);
  }

  /** Of a device that is, or was. */
  fleetOf(id: string): string | undefined {
    return this.devices.get(id)?.fleet ?? this.removed.get(id);
  }

  all(): readonly Device[] {
    return [...this.devices.values()];
  }

  /** The device whose secret it is. Takes the same time for one that does not exist. */
  authenticate(id: string, secret: Uint8Array): DeviceAddress | undefined {
    const device = this.devices.get(id);
    const matches = matchesHash(secret, this.secrets.get(id) ?? this.nobody);
    return matches && device !== undefined ? { fleet: device.fleet, device: id } : undefined;
  }

  async insert(trx: Transaction<Tables>, row: DeviceRow): Promise<void> {
    // Repeatable, like all that `persist` runs.
    await trx
      .insertInto('devices')
      .values(row)
      // One of that name that was removed begins anew.
      .onConflict((conflict) => conflict.column('id').doUpdateSet(row))
      .execute();
  }

  /** From now on its identity is nobody's. After the commit. */
  remove({ id, fleet }: Device): void {
    this.devices.delete(id);
    this.secrets.delete(id);
    this.removed.set(id, fleet);
  }

  /** After the commit. */
  put(row: DeviceRow): void {
    this.removed.delete(row.id);
    this.secrets.set(row.id, row.secret_hash);
    this.devices.set(row.id, {
      id: row.id,
      fleet: row.fleet,
      board: row.board,
      name: row.name,
      tags: JSON.parse(row.tags) as readonly string[],
      online: row.online,
      session: row.session,
      birth: row.birth === null ? null : (JSON.parse(row.birth) as Birth),
      createdAtMs: row.created_at,
      seenAtMs: row.seen_at,
    });
  }

  async update(trx: Transaction<Tables>, device: Device): Promise<void> {
    await trx
      .updateTable('devices')
      .set({
        online: device.online,
        session: device.session,
        birth: device.birth === null ? null : JSON.stringify(device.birth),
        seen_at: device.seenAtMs,
        tags: JSON.stringify(device.tags),
        name: device.name,
      })
      .where('id', '=', device.id)
      .execute();
  }

  /** After the commit. */
  replace(device: Device): void {
    this.devices.set(device.id, device);
  }
}
