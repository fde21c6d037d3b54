import { sign, type PrivateKey } from '@flotilla/pack';
import { Desired, type DesiredSigner, signDesired, signDesiredAnew, topicFor } from '@flotilla/protocol';
import type { Transaction } from 'kysely';
import type { Database, DesiredRow, Tables } from './db/schema.ts';
import type { Link } from './broker/link.ts';
import type { Registry } from './registry.ts';
import type { ReleaseRef, Rollout, RolloutEffect } from './rollout/state.ts';

export interface OutboxPorts {
  readonly db: Database;
  readonly registry: Registry;
  readonly key: PrivateKey;
  /** How devices come from older keys to those in use. */
  readonly successions: readonly Uint8Array[];
  /** A message that could not be given to the broker; it stays in the outbox. */
  readonly onError: (error: unknown) => void;
}

type DesiredKey = Pick<DesiredRow, 'device' | 'name' | 'sequence'>;

/**
 * What each device shall hold: written in the transaction that decided it, published after the commit, marked when the
 * broker has it. A kill between any two of these costs nothing but a second, equal message.
 */
export class Outbox {
  private readonly ports: OutboxPorts;
  private link: Link | undefined;
  private sending: Promise<void> = Promise.resolve();

  constructor(ports: OutboxPorts) {
    this.ports = ports;
  }

  /** After a rotation of keys: what was signed with an older one, or does not carry the newest statements, is signed anew. */
  async renew(): Promise<void> {
    const { db } = this.ports;
    const key = this.signer();
    for (const { device, name, payload } of await db.selectFrom('desired').selectAll().execute()) {
      if (payload.length === 0 || isOf(Desired.decode(payload), key)) continue;
      const row = { payload: signDesiredAnew(payload, key) };
      await db
        .updateTable('desired')
        .set(row)
        .where((at) => at.and({ device, name }))
        .execute();
    }
  }

  /** From now on it publishes; first, and whenever the broker was away, everything there is: it may start empty. */
  async connect(link: Link): Promise<void> {
    this.link = link;
    link.onReconnect?.(() => void this.sendEverything().catch(this.ports.onError));
    await this.sendEverything();
  }

  private async sendEverything(): Promise<void> {
    await this.ports.db.updateTable('desired').set({ published: false }).execute();
    this.send();
  }

  async write(trx: Transaction<Tables>, rollout: Rollout, effect: RolloutEffect): Promise<void> {
    const { device, sequence } = effect;
    const { name } = rollout.release;
    const release = effect.kind === 'desire' ? effect.release : null;
    const payload = release === null ? new Uint8Array() : await this.sign(trx, rollout, device, sequence, release);
    const row = {
      sequence,
      payload,
      published: false,
      version: release?.version ?? null,
      digest: release?.digest ?? null,
    };
    await trx
      .insertInto('desired')
      .values({ device, name, ...row })
      .onConflict((conflict) => conflict.columns(['device', 'name']).doUpdateSet(row))
      .execute();
  }

  /** Publishes what waits. Called after each commit, and again by the clock in case the broker was away. */
  send(): void {
    this.sending = this.sending.then(() => this.sendAll()).catch(this.ports.onError);
  }

  async close(): Promise<void> {
    this.link = undefined;
    await this.sending;
  }

  private async sendAll(): Promise<void> {
    for (;;) {
      const rows = await this.ports.db
        .selectFrom('desired')
        .selectAll()
        .where('published', '=', false)
        .limit(100)
        .execute();
      if (rows.length === 0) return;
      for (const row of rows) {
        if (this.link === undefined) return;
        await this.publish(this.link, row);
      }
      await this.mark(rows);
    }
  }

  private async publish(link: Link, { device, name, payload }: DesiredRow): Promise<void> {
    const fleet = this.ports.registry.fleetOf(device);
    if (fleet !== undefined)
      await link.publish(topicFor({ fleet, device }, 'desired', name), payload, { retain: true });
  }

  private async mark(rows: readonly DesiredKey[]): Promise<void> {
    await this.ports.db.transaction().execute(async (trx) => {
      for (const { device, name, sequence } of rows)
        await trx
          .updateTable('desired')
          .set({ published: true })
          // Not a newer one that was written meanwhile.
          .where((at) => at.and({ device, name, sequence }))
          .execute();
    });
  }

  private async sign(
    trx: Transaction<Tables>,
    rollout: Rollout,
    device: string,
    sequence: number,
    release: ReleaseRef,
  ): Promise<Uint8Array> {
    const { bytes, manifest_bytes } = await trx
      .selectFrom('packs')
      .select(['bytes', 'manifest_bytes'])
      .where('digest', '=', release.digest)
      .executeTakeFirstOrThrow();
    return signDesired(
      {
        device,
        name: release.name,
        sequence,
        digest: release.digest,
        manifestBytes: manifest_bytes,
        totalBytes: bytes,
        version: release.version,
        healthWindowMs: rollout.healthWindowMs,
        stateDeadlineMs: rollout.stateDeadlineMs,
      },
      this.signer(),
    );
  }

  private signer(): DesiredSigner {
    const { key, successions } = this.ports;
    return { id: key.publicKey.keyId, sign: (message) => sign(key, message), successions };
  }
}

function isOf({ keyId, successions }: Desired, { id, successions: wanted = [] }: DesiredSigner): boolean {
  return keyId === id && Buffer.concat([...successions]).equals(Buffer.concat([...wanted]));
}
