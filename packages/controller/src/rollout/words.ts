import { describeFailure, describeState, describeWaiting } from '@flotilla/protocol';
import type { RolloutDevice, Why } from './state.ts';

const sentences: { readonly [W in Why]: (device: RolloutDevice) => string } = {
  'canary-first': () => 'waits until the canary devices are done',
  paused: () => 'waits: the rollout is paused',
  offline: () => 'is not connected',
  unanswered: () => 'has not reported on this release yet',
  updating: ({ state }) => (state === null ? 'is being updated' : describeState(state)),
  chunk: () => describeWaiting('chunk'),
  storage: () => describeWaiting('storage'),
  'health-window': () => describeWaiting('health-window'),
  'other-update': () => describeWaiting('other-update'),
  'wrong-digest': () => 'says that it is done, but another model is loaded',
  refused: (device) => `refused the release: ${cause(device)}`,
  'rolled-back': (device) => `went back to the release that worked: ${cause(device)}`,
  removed: () => 'was removed from the fleet',
  deadline: ({ detail }) => `missed its deadline: ${detail}`,
  'rollout-stopped': ({ status }) =>
    status === 'untouched' ? 'was not touched: the rollout stopped first' : 'was called back: the rollout stopped',
  'rollout-aborted': ({ status }) =>
    status === 'untouched' ? 'was not touched: the rollout was aborted' : 'was called back: the rollout was aborted',
};

/** Why a device is not done, as a sentence that follows its name; undefined when it is. */
export function describeWhy(device: RolloutDevice): string | undefined {
  return device.why === null ? undefined : sentences[device.why](device);
}

function cause({ failure, detail }: RolloutDevice): string {
  const words = failure === null ? 'no reason given' : describeFailure(failure);
  return detail === '' ? words : `${words} (${detail})`;
}
