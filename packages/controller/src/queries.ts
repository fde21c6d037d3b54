import type { FailureReason, State, WaitingReason } from '@flotilla/protocol';
import type { Database, DesiredRow, ReportRow } from './db/schema.ts';
import type { Device, Registry } from './registry.ts';
import { type DeviceStatus, isOpenFailure, type Rollout, type RolloutDevice } from './rollout/state.ts';
import { loadRollout, type StoredRollout } from './rollout/store.ts';
import { describeWhy } from './rollout/words.ts';
import type { DeviceView, ModelView, PackView, ReleaseView, RolloutDeviceView, RolloutView } from './views.ts';

/** Reads what the HTTP API shows. */
export class Queries {
  private readonly db: Database;
  private readonly registry: Registry;

  constructor(db: Database, registry: Registry) {
    this.db = db;
    this.registry = registry;
  }

  async devices(ids?: readonly string[]): Promise<readonly DeviceView[]> {
    const only = ids === undefined ? undefined : new Set(ids);
    const devices = this.registry.all().filter(({ id }) => only?.has(id) !== false);
    const some = ids !== undefined && ids.length <= 100 ? ids : undefined;
    let reports = this.db.selectFrom('reports').selectAll();
    let desired = this.db.selectFrom('desired').selectAll();
    if (some !== undefined) {
      reports = reports.where('device', 'in', [...some, '']);
      desired = desired.where('device', 'in', [...some, '']);
    }
    const models = groupModels(await reports.execute(), await desired.execute(), await this.versions());
    return devices.map((device) => deviceView(device, models.get(device.id) ?? []));
  }

  async device(id: string): Promise<DeviceView | undefined> {
    return this.registry.get(id) === undefined ? undefined : (await this.devices([id]))[0];
  }

  async pack(digest: string): Promise<PackView | undefined> {
    const row = await this.db.selectFrom('packs').selectAll().where('digest', '=', digest).executeTakeFirst();
    if (row === undefined) return undefined;
    return { digest, name: row.name, task: row.task, bytes: row.bytes, signedBy: row.signed_by };
  }

  async releases(name?: string): Promise<readonly ReleaseView[]> {
    let query = this.db.selectFrom('releases').selectAll().orderBy('created_at').orderBy('version');
    if (name !== undefined) query = query.where('name', '=', name);
    const rows = await query.execute();
    return rows.map(({ created_at, ...row }) => ({ ...row, createdAtMs: created_at }));
  }

  async release(name: string, version: string): Promise<ReleaseView | undefined> {
    return (await this.releases(name)).find((release) => release.version === version);
  }

  async rollout(id: string): Promise<RolloutView | undefined> {
    const stored = await loadRollout(this.db, id);
    return stored === undefined ? undefined : this.rolloutView(stored);
  }

  /** Newest first. */
  async rollouts(limit: number): Promise<readonly RolloutView[]> {
    const rows = await this.db.selectFrom('rollouts').select('id').orderBy('created_at', 'desc').limit(limit).execute();
    const views: RolloutView[] = [];
    for (const { id } of rows) {
      const view = await this.rollout(id);
      if (view !== undefined) views.push(view);
    }
    return views;
  }

  private async versions(): Promise<ReadonlyMap<string, string>> {
    const rows = await this.db.selectFrom('releases').selectAll().execute();
    return new Map(rows.map(({ name, digest, version }) => [`${name} ${digest}`, version]));
  }

  private rolloutView({ rollout, selection, canary }: StoredRollout): RolloutView {
    const devices = [...rollout.devices.values()];
    const first = firstFailure(devices);
    return {
      id: rollout.id,
      release: rollout.release,
      to: selection,
      canary,
      phase: rollout.phase,
      healthWindowMs: rollout.healthWindowMs,
      stateDeadlineMs: rollout.stateDeadlineMs,
      createdAtMs: rollout.createdAtMs,
      endedAtMs: rollout.endedAtMs,
      pausedAtMs: rollout.pausedAtMs,
      counts: countStatuses(devices),
      reason:
        first === undefined || !isReason(rollout, first)
          ? null
          : `${this.nameOf(first.device)} ${describeWhy(first) ?? 'failed'}`,
      devices: devices.map((device) => this.rolloutDeviceView(device)),
    };
  }

  private rolloutDeviceView(device: RolloutDevice): RolloutDeviceView {
    return {
      device: device.device,
      board: this.registry.get(device.device)?.board ?? '',
      name: this.nameOf(device.device),
      role: device.role,
      status: device.status,
      why: device.why,
      sentence: describeWhy(device) ?? null,
      sinceMs: device.sinceMs,
      state: device.state,
      failure: device.failure,
      acknowledged: device.acknowledged === true,
      detail: device.detail,
      bytesDone: device.bytesDone,
      bytesTotal: device.bytesTotal,
      sequence: device.sequence,
    };
  }

  private nameOf(id: string): string {
    return this.registry.get(id)?.name ?? id;
  }
}

const isReason = ({ phase }: Rollout, first: RolloutDevice): boolean => phase === 'stopped' || isOpenFailure(first);

/** One that nobody acknowledged goes before all others. */
function firstFailure(devices: readonly RolloutDevice[]): RolloutDevice | undefined {
  const failed = devices.filter(({ status }) => status === 'failed');
  return failed.sort((a, b) => Number(isOpenFailure(b)) - Number(isOpenFailure(a)) || a.sinceMs - b.sinceMs)[0];
}

function countStatuses(devices: readonly RolloutDevice[]): RolloutView['counts'] {
  const counts: { [S in DeviceStatus]: number } = {
    queued: 0,
    offered: 0,
    done: 0,
    failed: 0,
    untouched: 0,
    'taken-back': 0,
  };
  for (const { status } of devices) counts[status]++;
  return counts;
}

function deviceView(device: Device, models: readonly ModelView[]): DeviceView {
  const { session: _, ...rest } = device;
  return { ...rest, models };
}

function groupModels(
  reports: readonly ReportRow[],
  desired: readonly DesiredRow[],
  versions: ReadonlyMap<string, string>,
): ReadonlyMap<string, readonly ModelView[]> {
  const wanted = new Map(desired.map((row) => [`${row.device} ${row.name}`, row]));
  const told = new Map(reports.map((row) => [`${row.device} ${row.name}`, row]));
  const models = new Map<string, ModelView[]>();
  for (const key of [...new Set([...wanted.keys(), ...told.keys()])].sort()) {
    const [device = '', name = ''] = key.split(' ');
    const of = models.get(device) ?? [];
    models.set(device, [...of, modelView(name, told.get(key), wanted.get(key), versions)]);
  }
  return models;
}

function modelView(
  name: string,
  report: ReportRow | undefined,
  desired: DesiredRow | undefined,
  versions: ReadonlyMap<string, string>,
): ModelView {
  const { version, digest, sequence } = desired ?? { version: null, digest: null, sequence: 0 };
  return {
    name,
    state: (report?.state as State | undefined) ?? null,
    version: versions.get(`${name} ${report?.loaded_digest ?? ''}`) ?? null,
    loadedDigest: report?.loaded_digest || null,
    releaseDigest: report?.release_digest || null,
    reason: (report?.reason as FailureReason | undefined) ?? null,
    detail: report?.detail ?? '',
    waiting: (report?.waiting as WaitingReason | undefined) ?? null,
    bytesDone: report?.bytes_done ?? 0,
    bytesTotal: report?.bytes_total ?? 0,
    receivedAtMs: report?.received_at ?? null,
    desired: version === null || digest === null ? null : { version, digest, sequence },
  };
}
