import type { Device } from '../registry.ts';
import type { NewEvent } from '../timeline.ts';
import { isActive, type Rollout, type RolloutDevice } from './state.ts';
import { changedDevices } from './store.ts';
import { describeWhy } from './words.ts';

/** What the timeline says about a change. */
export const storyOf = {
  created: (rollout: Rollout, to: string): NewEvent => ({
    atMs: rollout.createdAtMs,
    kind: 'rollout.created',
    device: null,
    rollout: rollout.id,
    data: { ...rollout.release, to, devices: rollout.devices.size },
  }),

  presence: (device: Device, atMs: number): NewEvent => ({
    atMs,
    kind: device.online ? 'device.online' : 'device.offline',
    device: device.id,
    rollout: null,
    data: { session: device.session, board: device.birth?.board ?? device.board },
  }),

  removed: (device: Device, atMs: number): NewEvent => ({
    atMs,
    kind: 'device.removed',
    device: device.id,
    rollout: null,
    data: { board: device.board, name: device.name },
  }),

  /** One event per device that moved, and one when the rollout did, was paused or resumed. */
  step(before: Rollout, after: Rollout, atMs: number): readonly NewEvent[] {
    const events = changedDevices(before, after)
      .filter((device) => hasMoved(before.devices.get(device.device), device))
      .map(
        (device): NewEvent => ({
          atMs,
          kind: 'rollout.device',
          device: device.device,
          rollout: after.id,
          data: deviceData(device),
        }),
      );
    const own = { atMs, device: null, rollout: after.id, data: { phase: after.phase } };
    const held = after.pausedAtMs !== null;
    // One that ends is no longer paused, and was not resumed.
    if (isActive(after.phase) && (before.pausedAtMs !== null) !== held)
      events.push({ ...own, kind: held ? 'rollout.paused' : 'rollout.resumed' });
    if (before.phase !== after.phase) events.push({ ...own, kind: 'rollout.phase' });
    return events;
  },
};

/** Bytes alone are progress, not a story. */
function hasMoved(before: RolloutDevice | undefined, after: RolloutDevice): boolean {
  return before?.status !== after.status || before.why !== after.why || before.state !== after.state;
}

const deviceData = (device: RolloutDevice): NewEvent['data'] => ({
  role: device.role,
  status: device.status,
  why: device.why,
  sentence: describeWhy(device) ?? 'serves the release',
  state: device.state,
  failure: device.failure,
  detail: device.detail,
});
