import type { ReleaseRef, Rollout, RolloutDevice } from './state.ts';

/** A device that a rollout may include. */
export interface Candidate {
  readonly device: string;
  readonly online: boolean;
  /** Last sequence given out for this device and model name; 0 before the first. */
  readonly sequence: number;
  readonly previous: ReleaseRef | null;
}

export interface RolloutPlan {
  /** Also the seed that picks the canary devices. */
  readonly id: string;
  readonly release: ReleaseRef;
  /** How many devices go first. */
  readonly canary: number;
  readonly healthWindowMs: number;
  readonly stateDeadlineMs: number;
}

/**
 * A rollout before its first step. Which devices go first depends only on the rollout's id and on who is online: those
 * that are, in the order of a hash of id and device. An offline canary would hold everybody up until its deadline.
 */
export function planRollout(plan: RolloutPlan, candidates: readonly Candidate[], atMs: number): Rollout {
  const rank = new Map(candidates.map(({ device }) => [device, seededHash(plan.id, device)]));
  const ordered = candidates.toSorted(
    (a, b) =>
      Number(b.online) - Number(a.online) ||
      (rank.get(a.device) ?? 0) - (rank.get(b.device) ?? 0) ||
      (a.device < b.device ? -1 : 1),
  );
  const devices = ordered.map((candidate, index) => entry(candidate, index < plan.canary ? 'canary' : 'rest', atMs));
  return {
    id: plan.id,
    release: plan.release,
    phase: 'canary',
    healthWindowMs: plan.healthWindowMs,
    stateDeadlineMs: plan.stateDeadlineMs,
    createdAtMs: atMs,
    endedAtMs: null,
    pausedAtMs: null,
    devices: new Map(devices.map((device) => [device.device, device])),
  };
}

function entry(candidate: Candidate, role: RolloutDevice['role'], atMs: number): RolloutDevice {
  return {
    ...candidate,
    role,
    status: 'queued',
    why: 'canary-first',
    sinceMs: atMs,
    state: null,
    failure: null,
    detail: '',
    bytesDone: 0,
    bytesTotal: 0,
    seen: { session: 0, counter: 0 },
    deadline: null,
  };
}

/** FNV-1a over `seed/text`, then MurmurHash3's finaliser so that similar names do not stay neighbours. */
export function seededHash(seed: string, text: string): number {
  let hash = 0x811c9dc5;
  for (const char of `${seed}/${text}`) hash = Math.imul(hash ^ (char.codePointAt(0) ?? 0), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
