import type { ControllerClient, RolloutDeviceView, RolloutView } from '@flotilla/controller';
import type { DemoPack } from './compile-models.ts';
import type { TimelineEntry } from './result.ts';
import type { Screen } from './screen.ts';

const HEALTH_WINDOW_MS = 300;
const STATE_DEADLINE_MS = 60_000;

export interface RolledOut {
  readonly rollout: RolloutView;
  readonly timeline: readonly TimelineEntry[];
}

/** Publishes a pack, rolls it out and shows it move. @throws where it does not end `as` it should */
export async function rollOut(
  client: ControllerClient,
  { name, path }: DemoPack,
  version: string,
  screen: Screen,
  as: 'done' | 'stopped' = 'done',
): Promise<RolledOut> {
  const { digest } = await client.publish(path, name, version);
  screen.say(`   ${name}@${version} ${digest.slice(0, 19)}…`);
  const created = await client.createRollout({
    release: `${name}@${version}`,
    healthWindowMs: HEALTH_WINDOW_MS,
    stateDeadlineMs: STATE_DEADLINE_MS,
  });
  const timeline: TimelineEntry[] = [];
  const said = new Map<string, string>();
  let rollout = created;
  for await (const view of client.watch(created.id)) {
    rollout = view;
    for (const device of view.devices) {
      const state = shownState(device);
      if (said.get(device.device) === state) continue;
      said.set(device.device, state);
      if (state === 'queued') continue;
      timeline.push({ device: device.device, rollout: `${name}@${version}`, state, atMs: Date.now() });
      screen.say(
        `   ${name.padEnd(8)} ${device.device.padEnd(6)} ${device.role.padEnd(6)} ${state}${device.detail === '' ? '' : `: ${device.detail}`}`,
      );
    }
  }
  screen.say(`   ${name.padEnd(8)} rollout ${rollout.phase}${rollout.reason === null ? '' : `: ${rollout.reason}`}`);
  if (rollout.phase !== as) throw new Error(`the rollout of ${name}@${version} is ${rollout.phase}, not ${as}`);
  return { rollout, timeline };
}

function shownState({ status, state }: RolloutDeviceView): string {
  if (status === 'done') return 'committed';
  if (status === 'offered' || status === 'failed') return state ?? status;
  return status;
}
