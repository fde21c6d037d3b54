import type { Generated, Kysely } from 'kysely';
import type { DeviceStatus, RolloutPhase, Why } from '../rollout/state.ts';

/** JSON lives in text columns, so that both drivers hand it over alike. Times are Unix epoch milliseconds. */
export interface Tables {
  readonly devices: DeviceRow;
  readonly tokens: TokenRow;
  readonly packs: PackRow;
  readonly pack_blobs: PackBlobRow;
  readonly releases: ReleaseRow;
  readonly desired: DesiredRow;
  readonly rollouts: RolloutRow;
  readonly rollout_devices: RolloutDeviceRow;
  readonly reports: ReportRow;
  readonly telemetry: TelemetryRow;
  readonly events: EventRow;
}
export type Database = Kysely<Tables>;

export interface DeviceRow {
  readonly id: string;
  readonly fleet: string;
  readonly board: string;
  readonly name: string;
  readonly tags: string; // JSON array
  readonly secret_hash: string;
  readonly online: boolean;
  readonly session: number;
  readonly birth: string | null; // JSON
  readonly created_at: number;
  readonly seen_at: number | null;
  /** Since when it is no device any more. The row stays: rollouts and telemetry are about it. */
  readonly removed_at: number | null;
}

export interface TokenRow {
  readonly hash: string;
  readonly role: 'admin' | 'read' | 'provision';
  readonly label: string;
  readonly created_at: number;
}

export interface PackRow {
  readonly digest: string;
  readonly name: string;
  readonly task: string;
  readonly bytes: number;
  readonly manifest_bytes: number;
  readonly signed_by: string | null;
  readonly created_at: number;
}

export interface PackBlobRow {
  readonly pack: string;
  readonly digest: string;
  readonly bytes: number;
}

export interface ReleaseRow {
  readonly name: string;
  readonly version: string;
  readonly digest: string;
  readonly created_at: number;
}

/** The outbox: what a device shall hold, and whether the broker has been told. */
export interface DesiredRow {
  readonly device: string;
  readonly name: string;
  readonly sequence: number;
  readonly version: string | null; // null: withdrawn
  readonly digest: string | null;
  readonly payload: Uint8Array; // empty: clears the retained document
  readonly published: boolean;
}

export interface RolloutRow {
  readonly id: string;
  readonly name: string;
  readonly version: string;
  readonly digest: string;
  readonly selection: string;
  readonly canary: number;
  readonly phase: RolloutPhase;
  readonly health_window_ms: number;
  readonly state_deadline_ms: number;
  readonly created_at: number;
  readonly ended_at: number | null;
  readonly paused_at: number | null;
}

export interface RolloutDeviceRow {
  readonly rollout: string;
  readonly device: string;
  readonly position: number;
  readonly status: DeviceStatus;
  readonly why: Why | null;
  readonly entry: string; // JSON of a RolloutDevice
}

export interface ReportRow {
  readonly device: string;
  readonly name: string;
  readonly session: number;
  readonly counter: number;
  readonly state: string;
  readonly sequence: number;
  readonly release_digest: string;
  readonly loaded_digest: string;
  readonly reason: string | null;
  readonly detail: string;
  readonly waiting: string | null;
  readonly bytes_done: number;
  readonly bytes_total: number;
  readonly received_at: number;
}

export interface TelemetryRow {
  readonly device: string;
  readonly name: string;
  readonly digest: string;
  readonly session: number;
  readonly counter: number;
  readonly histogram: Uint8Array; // HDR V2, compressed, microseconds
  readonly throughput_per_s: number; // mean over the windows, weighted by their length
  readonly time_to_first_token_us: number | null; // text models, of the last window
  readonly tokens_per_s: number | null;
  readonly peak_rss_bytes: number;
  readonly pss_bytes: number;
  readonly weights_bytes: number;
  readonly window_ms: number; // of all windows together
  readonly failures: number;
  readonly updated_at: number;
}

export interface EventRow {
  readonly id: Generated<number>;
  readonly at: number;
  readonly kind: string;
  readonly device: string | null;
  readonly rollout: string | null;
  readonly data: string; // JSON
}
