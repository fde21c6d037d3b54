import type { Transaction } from 'kysely';
import type { Database, RolloutRow, Tables } from '../db/schema.ts';
import { isActive, type Rollout, type RolloutDevice } from './state.ts';

/** A rollout with what only people look at. */
export interface StoredRollout {
  readonly rollout: Rollout;
  readonly selection: string;
  readonly canary: number;
}

const BATCH = 500;

export async function insertRollout(trx: Transaction<Tables>, stored: StoredRollout): Promise<void> {
  const { rollout, selection, canary } = stored;
  const { release } = rollout;
  const row = {
    id: rollout.id,
    ...release,
    selection,
    canary,
    phase: rollout.phase,
    health_window_ms: rollout.healthWindowMs,
    state_deadline_ms: rollout.stateDeadlineMs,
    created_at: rollout.createdAtMs,
    ended_at: rollout.endedAtMs,
    paused_at: rollout.pausedAtMs,
  };
  // Repeatable, like all that `persist` runs.
  await trx.deleteFrom('rollouts').where('id', '=', rollout.id).execute();
  await trx.insertInto('rollouts').values(row).execute();
  const rows = [...rollout.devices.values()].map((device, position) => ({
    rollout: rollout.id,
    device: device.device,
    position,
    ...columns(device),
  }));
  for (let at = 0; at < rows.length; at += BATCH)
    await trx
      .insertInto('rollout_devices')
      .values(rows.slice(at, at + BATCH))
      .execute();
}

/** Writes what differs. */
export async function updateRollout(trx: Transaction<Tables>, before: Rollout, after: Rollout): Promise<void> {
  if (before.phase !== after.phase || before.pausedAtMs !== after.pausedAtMs)
    await trx
      .updateTable('rollouts')
      .set({ phase: after.phase, ended_at: after.endedAtMs, paused_at: after.pausedAtMs })
      .where('id', '=', after.id)
      .execute();
  for (const device of changedDevices(before, after))
    await trx
      .updateTable('rollout_devices')
      .set(columns(device))
      .where('rollout', '=', after.id)
      .where('device', '=', device.device)
      .execute();
}

export function changedDevices(before: Rollout, after: Rollout): readonly RolloutDevice[] {
  return [...after.devices.values()].filter((device) => before.devices.get(device.device) !== device);
}

export async function loadActiveRollouts(db: Database): Promise<readonly Rollout[]> {
  const rows = await db.selectFrom('rollouts').selectAll().orderBy('created_at').execute();
  return Promise.all(rows.filter(({ phase }) => isActive(phase)).map(async (row) => (await load(db, row)).rollout));
}

export async function loadRollout(db: Database, id: string): Promise<StoredRollout | undefined> {
  const row = await db.selectFrom('rollouts').selectAll().where('id', '=', id).executeTakeFirst();
  return row === undefined ? undefined : load(db, row);
}

async function load(db: Database, row: RolloutRow): Promise<StoredRollout> {
  const entries = await db
    .selectFrom('rollout_devices')
    .select('entry')
    .where('rollout', '=', row.id)
    .orderBy('position')
    .execute();
  const devices = entries.map(({ entry }) => JSON.parse(entry) as RolloutDevice);
  const rollout: Rollout = {
    id: row.id,
    release: { name: row.name, version: row.version, digest: row.digest },
    phase: row.phase,
    healthWindowMs: row.health_window_ms,
    stateDeadlineMs: row.state_deadline_ms,
    createdAtMs: row.created_at,
    endedAtMs: row.ended_at,
    pausedAtMs: row.paused_at,
    devices: new Map(devices.map((device) => [device.device, device])),
  };
  return { rollout, selection: row.selection, canary: row.canary };
}

const columns = (device: RolloutDevice) => ({
  status: device.status,
  why: device.why,
  entry: JSON.stringify(device),
});
