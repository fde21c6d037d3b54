import {
  isActive,
  type Rollout,
  type RolloutDevice,
  type RolloutEffect,
  type RolloutEvent,
  type RolloutPhase,
  type RolloutReport,
  type RolloutStep,
  stateDeadline,
  totalDeadline,
  type Why,
} from './state.ts';

/**
 * The rollout engine's mind: canary devices first, then the rest; the first failure stops it. Pure: no clock, no
 * randomness, no I/O. The same event twice changes nothing, and neither does any event once the rollout has ended.
 */
export function stepRollout(rollout: Rollout, event: RolloutEvent): RolloutStep {
  if (!isActive(rollout.phase)) return { state: rollout, effects: [] };
  switch (event.kind) {
    case 'started':
      return settle(rollout, [], event.atMs);
    case 'resumed':
      return settle(
        mapDevices(rollout, (device) => resume(rollout, device, event)),
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
    case 'tick':
      return settle(
        mapDevices(rollout, (device) => checkDeadline(device, event.atMs)),
        [],
        event.atMs,
      );
    case 'aborted':
      return end(rollout, 'aborted', event.atMs);
  }
}

/** What follows from the devices as they are: stop, the next wave, the end, or nothing. */
function settle(rollout: Rollout, effects: readonly RolloutEffect[], atMs: number): RolloutStep {
  const devices = [...rollout.devices.values()];
  if (devices.some(({ status }) => status === 'failed')) return joined(effects, end(rollout, 'stopped', atMs));
  if (devices.every(({ status }) => status === 'done'))
    return { state: { ...rollout, phase: 'done', endedAtMs: atMs }, effects };
  const canaries = devices.filter(({ role }) => role === 'canary');
  if (rollout.phase === 'canary' && canaries.every(({ status }) => status === 'done'))
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
    if (device.status !== 'offered' && device.status !== 'failed') return device;
    const sequence = device.sequence + 1;
    effects.push(goBack(rollout, device, sequence));
    const back = { ...device, sequence, deadline: null };
    return device.status === 'failed' ? back : { ...back, status: 'taken-back', why, sinceMs: atMs };
  });
  return { state: { ...state, phase, endedAtMs: atMs }, effects };
}

function goBack(rollout: Rollout, { device, previous }: RolloutDevice, sequence: number): RolloutEffect {
  // The same release rolled out again, refused this time: there is nothing older to name.
  if (previous === null || previous.digest === rollout.release.digest) return { kind: 'withdraw', device, sequence };
  return { kind: 'desire', device, sequence, release: previous };
}

function noticePresence(device: RolloutDevice, event: { online: boolean; atMs: number }): RolloutDevice {
  if (device.online === event.online) return device;
  const seen = { ...device, online: event.online };
  if (device.status !== 'offered') return seen;
  if (!event.online) return { ...seen, why: 'offline', sinceMs: event.atMs };
  return { ...seen, why: device.state === null ? 'unanswered' : 'updating', sinceMs: event.atMs };
}

function noticeReport(rollout: Rollout, device: RolloutDevice, report: RolloutReport, atMs: number): RolloutDevice {
  if (device.status !== 'offered' && device.status !== 'done') return device;
  // About another desired release, or a duplicate, or overtaken by a newer one: MQTT may deliver twice and late.
  if (report.sequence !== device.sequence || !isNewer(report, device.seen)) return device;
  const noted: RolloutDevice = {
    ...device,
    state: report.state,
    failure: report.reason ?? null,
    detail: report.detail,
    bytesDone: report.bytesDone,
    bytesTotal: report.bytesTotal,
    seen: { session: report.session, counter: report.counter },
  };
  if (report.state === 'failed') return failed(noted, 'refused', atMs);
  // After the commit too: what a device takes back itself is a failure however late it comes.
  if (report.state === 'rolled-back') return failed(noted, 'rolled-back', atMs);
  if (device.status === 'done') return noted;
  if (report.state === 'committed' && report.loadedDigest === rollout.release.digest)
    return { ...noted, status: 'done', why: null, sinceMs: atMs, deadline: null };
  const why: Why = report.state === 'committed' ? 'wrong-digest' : (report.waiting ?? 'updating');
  if (report.state === device.state) return why === device.why ? noted : { ...noted, why, sinceMs: atMs };
  const totalMs = device.deadline?.totalMs ?? totalDeadline(rollout, atMs);
  return { ...noted, why, sinceMs: atMs, deadline: { stateMs: stateDeadline(rollout, report.state, atMs), totalMs } };
}

function checkDeadline(device: RolloutDevice, atMs: number): RolloutDevice {
  if (device.status !== 'offered' || device.deadline === null) return device;
  if (atMs < Math.min(device.deadline.stateMs, device.deadline.totalMs)) return device;
  return failed({ ...device, detail: deadlineDetail(device) }, 'deadline', atMs);
}

function deadlineDetail({ state, why }: RolloutDevice): string {
  if (why === 'offline') return state === null ? 'never came online' : `went offline in state ${state}`;
  return state === null ? 'never reported on the release' : `stayed too long in state ${state}`;
}

function resume(
  rollout: Rollout,
  device: RolloutDevice,
  { atMs, online }: { atMs: number; online: ReadonlySet<string> },
): RolloutDevice {
  const seen = noticePresence(device, { online: online.has(device.device), atMs });
  if (seen.deadline === null) return seen;
  return {
    ...seen,
    deadline: { stateMs: stateDeadline(rollout, seen.state, atMs), totalMs: totalDeadline(rollout, atMs) },
  };
}

const failed = (device: RolloutDevice, why: Why, atMs: number): RolloutDevice => ({
  ...device,
  status: 'failed',
  why,
  sinceMs: atMs,
  deadline: null,
});

const isNewer = (report: RolloutReport, seen: RolloutDevice['seen']): boolean =>
  report.session > seen.session || (report.session === seen.session && report.counter > seen.counter);

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
