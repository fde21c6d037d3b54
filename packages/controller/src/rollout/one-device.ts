import {
  type Rollout,
  type RolloutDevice,
  type RolloutReport,
  stateDeadline,
  totalDeadline,
  type Why,
} from './state.ts';

// What an event means for one device of a rollout; what follows for the rollout is the reducer's.

export function noticePresence(device: RolloutDevice, event: { online: boolean; atMs: number }): RolloutDevice {
  if (device.online === event.online) return device;
  const seen = { ...device, online: event.online };
  if (device.status !== 'offered') return seen;
  if (!event.online) return { ...seen, why: 'offline', sinceMs: event.atMs };
  return { ...seen, why: device.state === null ? 'unanswered' : 'updating', sinceMs: event.atMs };
}

export function noticeReport(
  rollout: Rollout,
  device: RolloutDevice,
  report: RolloutReport,
  atMs: number,
): RolloutDevice {
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
  const fromMs = deadlineClock(rollout, atMs);
  const totalMs = device.deadline?.totalMs ?? totalDeadline(rollout, fromMs);
  return { ...noted, why, sinceMs: atMs, deadline: { stateMs: stateDeadline(rollout, report.state, fromMs), totalMs } };
}

export function checkDeadline(device: RolloutDevice, atMs: number): RolloutDevice {
  if (device.status !== 'offered' || device.deadline === null) return device;
  if (atMs < Math.min(device.deadline.stateMs, device.deadline.totalMs)) return device;
  return failed({ ...device, detail: deadlineDetail(device) }, 'deadline', atMs);
}

/** Nothing more is expected of it: the others go on, and what it committed counts. */
export function noticeRemoval(device: RolloutDevice, atMs: number): RolloutDevice {
  if (device.status === 'done' || device.acknowledged === true) return device;
  return failed({ ...device, online: false, acknowledged: true }, 'removed', atMs);
}

function deadlineDetail({ state, why }: RolloutDevice): string {
  if (why === 'offline') return state === null ? 'never came online' : `went offline in state ${state}`;
  return state === null ? 'never reported on the release' : `stayed too long in state ${state}`;
}

/** After a restart of the controller. */
export function renew(
  rollout: Rollout,
  device: RolloutDevice,
  { atMs, online }: { atMs: number; online: ReadonlySet<string> },
): RolloutDevice {
  const seen = noticePresence(device, { online: online.has(device.device), atMs });
  if (seen.deadline === null) return seen;
  const fromMs = deadlineClock(rollout, atMs);
  return {
    ...seen,
    deadline: { stateMs: stateDeadline(rollout, seen.state, fromMs), totalMs: totalDeadline(rollout, fromMs) },
  };
}

/** It stands still while the rollout is paused; `resume` moves the deadlines on by as much. */
const deadlineClock = (rollout: Rollout, atMs: number): number => rollout.pausedAtMs ?? atMs;

const failed = (device: RolloutDevice, why: Why, atMs: number): RolloutDevice => ({
  ...device,
  status: 'failed',
  why,
  sinceMs: atMs,
  deadline: null,
});

const isNewer = (report: RolloutReport, seen: RolloutDevice['seen']): boolean =>
  report.session > seen.session || (report.session === seen.session && report.counter > seen.counter);
