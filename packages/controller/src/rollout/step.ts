import {
  isActive,
  isOpenFailure,
  type Rollout,
  type RolloutDevice,
  type RolloutEffect,
  type RolloutEvent,
  type RolloutPhase,
  type RolloutStep,
  stateDeadline,
  totalDeadline,
  type Why,
} from './state.ts';
import { checkDeadline, noticePresence, noticeRemoval, noticeReport, renew } from './one-device.ts';

/**
 * The rollout engine's mind: canary devices first, then the rest; the first failure stops it. While it is paused nobody
 * new is told, the deadlines' clock stands still, and a failure waits for a person. Pure: no clock, no randomness, no
 * I/O. The same event twice changes nothing, and neither does any event once the rollout has ended.
 */
export function stepRollout(rollout: Rollout, event: RolloutEvent): RolloutStep {
  if (!isActive(rollout.phase)) return { state: rollout, effects: [] };
  switch (event.kind) {
    case 'started':
      return settle(rollout, [], event.atMs);
    case 'restarted':
      return settle(
        mapDevices(rollout, (device) => renew(rollout, device, event)),
        [],
        event.atMs,
      );
    case 'presence':
      return settle(
        mapDevice(rollout, event.device, (device) => noticePresence(device, event)),
        [],
        event.atMs,
      );
    case 'reported':
      return settle(
        mapDevice(rollout, event.device, (device) => noticeReport(rollout, device, event.report, event.atMs)),
        [],
        event.atMs,
      );
    case 'removed':
      return settle(
        mapDevice(withOtherCanary(rollout, event.device), event.device, (device) => noticeRemoval(device, event.atMs)),
        [],
        event.atMs,
      );
    case 'tick':
      if (rollout.pausedAtMs !== null) return { state: rollout, effects: [] };
      return settle(
        mapDevices(rollout, (device) => checkDeadline(device, event.atMs)),
        [],
        event.atMs,
      );
    case 'paused':
      return { state: pause(rollout, event.atMs), effects: [] };
    case 'resumed':
      return resume(rollout, event.atMs);
    case 'aborted':
      return end(rollout, 'aborted', event.atMs);
  }
}

/** What follows from the devices as they are: stop, the next wave, the end, or nothing. */
function settle(rollout: Rollout, effects: readonly RolloutEffect[], atMs: number): RolloutStep {
  const devices = [...rollout.devices.values()];
  const isPaused = rollout.pausedAtMs !== null;
  if (!isPaused && devices.some(isOpenFailure)) return joined(effects, end(rollout, 'stopped', atMs));
  if (devices.every(isOver)) {
    const phase = devices.some(({ status }) => status === 'done') ? 'done' : 'stopped';
    return { state: { ...rollout, phase, endedAtMs: atMs, pausedAtMs: null }, effects };
  }
  if (isPaused) return { state: rollout, effects };
  const canaries = devices.filter(({ role }) => role === 'canary');
  if (rollout.phase === 'canary' && canaries.every(isOver))
    return joined(effects, offerAll({ ...rollout, phase: 'rest' }, 'rest', atMs));
  return joined(effects, offerAll(rollout, rollout.phase === 'canary' ? 'canary' : 'rest', atMs));
}

function offerAll(rollout: Rollout, role: RolloutDevice['role'], atMs: number): RolloutStep {
  const effects: RolloutEffect[] = [];
  const state = mapDevices(rollout, (device) => {
    if (device.role !== role || device.status !== 'queued') return device;
    const sequence = device.sequence + 1;
    effects.push({ kind: 'desire', device: device.device, sequence, release: rollout.release });
    const why: Why = device.online ? 'unanswered' : 'offline';
    const deadline = { stateMs: stateDeadline(rollout, null, atMs), totalMs: totalDeadline(rollout, atMs) };
    return { ...device, status: 'offered', why, sinceMs: atMs, sequence, deadline };
  });
  return { state, effects };
}

/**
 * Ends a rollout early. Devices whose turn had not come are left alone; those under way, and those that failed, get
 * back what they had, so that none keeps trying a release that nobody wants any more. Devices that committed keep it:
 * they ran it through golden vectors, budget and health window themselves.
 */
function end(rollout: Rollout, phase: RolloutPhase & ('stopped' | 'aborted'), atMs: number): RolloutStep {
  const effects: RolloutEffect[] = [];
  const why: Why = phase === 'stopped' ? 'rollout-stopped' : 'rollout-aborted';
  const state = mapDevices(rollout, (device) => {
    if (device.status === 'queued') return { ...device, status: 'untouched', why, sinceMs: atMs };
    if (device.status !== 'offered' && !isOpenFailure(device)) return device;
    const sequence = device.sequence + 1;
    effects.push(goBack(rollout, device, sequence));
    const back = { ...device, sequence, deadline: null };
    return device.status === 'failed' ? back : { ...back, status: 'taken-back', why, sinceMs: atMs };
  });
  return { state: { ...state, phase, endedAtMs: atMs, pausedAtMs: null }, effects };
}

/** No fleet is told without a canary because the canary was removed: the next device is one in its place. */
function withOtherCanary(rollout: Rollout, removed: string): Rollout {
  const device = rollout.devices.get(removed);
  if (rollout.phase !== 'canary' || device?.role !== 'canary') return rollout;
  if (device.status !== 'queued' && device.status !== 'offered') return rollout;
  const next = [...rollout.devices.values()].find(({ role, status }) => role === 'rest' && status === 'queued');
  return next === undefined ? rollout : mapDevice(rollout, next.device, (one) => ({ ...one, role: 'canary' }));
}

function pause(rollout: Rollout, atMs: number): Rollout {
  if (rollout.pausedAtMs !== null) return rollout;
  const held = mapDevices(rollout, (device) =>
    device.status === 'queued' ? { ...device, why: 'paused', sinceMs: atMs } : device,
  );
  return { ...held, pausedAtMs: atMs };
}

/** Whoever resumes has seen what failed: those devices get back what they had, and the others go on. */
function resume(rollout: Rollout, atMs: number): RolloutStep {
  if (rollout.pausedAtMs === null) return { state: rollout, effects: [] };
  const pausedMs = atMs - rollout.pausedAtMs;
  const effects: RolloutEffect[] = [];
  const state = mapDevices(rollout, (device) => {
    if (device.status === 'queued') return { ...device, why: 'canary-first', sinceMs: atMs };
    if (isOpenFailure(device)) {
      const sequence = device.sequence + 1;
      effects.push(goBack(rollout, device, sequence));
      return { ...device, sequence, acknowledged: true };
    }
    if (device.deadline === null) return device;
    const { stateMs, totalMs } = device.deadline;
    return { ...device, deadline: { stateMs: stateMs + pausedMs, totalMs: totalMs + pausedMs } };
  });
  return settle({ ...state, pausedAtMs: null }, effects, atMs);
}

function goBack(rollout: Rollout, { device, previous }: RolloutDevice, sequence: number): RolloutEffect {
  // The same release rolled out again, refused this time: there is nothing older to name.
  if (previous === null || previous.digest === rollout.release.digest) return { kind: 'withdraw', device, sequence };
  return { kind: 'desire', device, sequence, release: previous };
}

/** Nothing more is expected of it. */
const isOver = (device: RolloutDevice): boolean =>
  device.status === 'done' || (device.status === 'failed' && !isOpenFailure(device));

/** Keeps the identity of what did not change, so that only changed devices are stored. */
function mapDevices(rollout: Rollout, change: (device: RolloutDevice) => RolloutDevice): Rollout {
  const devices = new Map<string, RolloutDevice>();
  let changed = false;
  for (const [id, device] of rollout.devices) {
    const next = change(device);
    if (next !== device) changed = true;
    devices.set(id, next);
  }
  return changed ? { ...rollout, devices } : rollout;
}

function mapDevice(rollout: Rollout, id: string, change: (device: RolloutDevice) => RolloutDevice): Rollout {
  const device = rollout.devices.get(id);
  if (device === undefined) return rollout;
  const next = change(device);
  if (next === device) return rollout;
  return { ...rollout, devices: new Map(rollout.devices).set(id, next) };
}

const joined = (effects: readonly RolloutEffect[], step: RolloutStep): RolloutStep => ({
  state: step.state,
  effects: [...effects, ...step.effects],
});
