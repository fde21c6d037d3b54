import type { FailureReason, State, WaitingReason } from '@flotilla/protocol';

/** A release as a rollout knows it: a name, a version, and the digest of the pack's manifest. */
export interface ReleaseRef {
  readonly name: string;
  readonly version: string;
  readonly digest: string;
}

export type RolloutPhase =
  | 'canary' // the canary devices are being updated
  | 'rest' // all others are
  | 'done'
  | 'stopped' // by a failure
  | 'aborted'; // by a person

export type DeviceStatus =
  | 'queued' // its turn has not come: nothing was published to it
  | 'offered' // the release is its desired one
  | 'done'
  | 'failed'
  | 'untouched' // the rollout ended before its turn
  | 'taken-back'; // the rollout ended while it was under way; it goes back to what it had

/** Why a device is not done. A closed list; `describeWhy` has a sentence for each. */
export type Why =
  | 'canary-first'
  | 'paused'
  | 'offline'
  | 'unanswered'
  | 'updating'
  | WaitingReason
  | 'wrong-digest'
  | 'refused'
  | 'rolled-back'
  | 'deadline'
  | 'removed'
  | 'rollout-stopped'
  | 'rollout-aborted';

/** One device in a rollout. Plain data: stored as JSON. */
export interface RolloutDevice {
  readonly device: string;
  readonly role: 'canary' | 'rest';
  readonly status: DeviceStatus;
  /** null once done. */
  readonly why: Why | null;
  /** Since when it is so, Unix epoch in milliseconds. */
  readonly sinceMs: number;
  readonly online: boolean;
  /** Last sequence given out for this device and model name. */
  readonly sequence: number;
  /** What the device was to hold before this rollout: where it goes back to. */
  readonly previous: ReleaseRef | null;
  /** What the device last reported about this release. */
  readonly state: State | null;
  readonly failure: FailureReason | null;
  /** It failed, somebody saw it and went on. Absent in what was stored before there was a pause. */
  readonly acknowledged?: boolean;
  readonly detail: string;
  readonly bytesDone: number;
  readonly bytesTotal: number;
  /** The newest report that was counted; anything not above it is a duplicate or late. */
  readonly seen: { readonly session: number; readonly counter: number };
  /** When the state it is in must have ended, and when all of it must have; null unless offered. */
  readonly deadline: { readonly stateMs: number; readonly totalMs: number } | null;
}

export interface Rollout {
  readonly id: string;
  readonly release: ReleaseRef;
  readonly phase: RolloutPhase;
  readonly healthWindowMs: number;
  /** The longest a device may stay in one state. */
  readonly stateDeadlineMs: number;
  readonly createdAtMs: number;
  readonly endedAtMs: number | null;
  /** Since when a person has held it up; null while it runs, and once it has ended. */
  readonly pausedAtMs: number | null;
  readonly devices: ReadonlyMap<string, RolloutDevice>;
}

/** What the reducer needs of a report. */
export interface RolloutReport {
  readonly session: number;
  readonly counter: number;
  readonly state: State;
  readonly sequence: number;
  readonly loadedDigest: string;
  readonly reason: FailureReason | undefined;
  readonly detail: string;
  readonly waiting: WaitingReason | undefined;
  readonly bytesDone: number;
  readonly bytesTotal: number;
}

/** `atMs` is the controller's clock; a device's clock decides nothing. */
export type RolloutEvent =
  | { readonly kind: 'started'; readonly atMs: number }
  /** The controller was away: nobody could report, so no deadline ran. */
  | { readonly kind: 'restarted'; readonly atMs: number; readonly online: ReadonlySet<string> }
  | { readonly kind: 'presence'; readonly atMs: number; readonly device: string; readonly online: boolean }
  | { readonly kind: 'reported'; readonly atMs: number; readonly device: string; readonly report: RolloutReport }
  /** By a person: it is no device any more. */
  | { readonly kind: 'removed'; readonly atMs: number; readonly device: string }
  | { readonly kind: 'tick'; readonly atMs: number }
  | { readonly kind: 'paused'; readonly atMs: number }
  /** By a person, who has seen the failures so far and goes on without those devices. */
  | { readonly kind: 'resumed'; readonly atMs: number }
  | { readonly kind: 'aborted'; readonly atMs: number };

export type RolloutEffect =
  /** Sign and publish this as the device's desired release. */
  | { readonly kind: 'desire'; readonly device: string; readonly sequence: number; readonly release: ReleaseRef }
  /** The device had nothing before: clear its desired document. */
  | { readonly kind: 'withdraw'; readonly device: string; readonly sequence: number };

export interface RolloutStep {
  readonly state: Rollout;
  readonly effects: readonly RolloutEffect[];
}

/** True while a rollout can still change. */
export const isActive = (phase: RolloutPhase): boolean => phase === 'canary' || phase === 'rest';

/** A failure that stops a rollout, or will when it is no longer paused. */
export const isOpenFailure = ({ status, acknowledged }: RolloutDevice): boolean =>
  status === 'failed' && acknowledged !== true;

const GRACE_SHARE = 0.1;
const GRACE_MIN_MS = 1000;

/**
 * When a device that enters a state now must have left it. Longer than the agent's own deadline, so that a living
 * agent says itself what went wrong; the controller's deadline is for dead ones.
 */
export function stateDeadline(rollout: Rollout, state: State | null, atMs: number): number {
  const window = state === 'trial' ? rollout.healthWindowMs : 0;
  const grace = Math.max(GRACE_MIN_MS, rollout.stateDeadlineMs * GRACE_SHARE);
  return atMs + window + rollout.stateDeadlineMs + grace;
}

const STATES_ON_THE_WAY = 10;

/** A device that goes back and forth between states has this long in all. */
export function totalDeadline(rollout: Rollout, atMs: number): number {
  return stateDeadline(rollout, 'trial', atMs) + STATES_ON_THE_WAY * rollout.stateDeadlineMs;
}
