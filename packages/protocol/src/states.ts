/** In the order of their numbers on the wire; 0 is "unspecified" and never sent. */
export const STATES = [
  'empty',
  'fetching',
  'downloading',
  'verifying',
  'installing',
  'testing',
  'measuring',
  'switching',
  'trial',
  'committed',
  'failed',
  'rolled-back',
] as const;
export type State = (typeof STATES)[number];

export const FAILURE_REASONS = [
  'desired-signature',
  'desired-replayed',
  'pack-signature',
  'pack-digest',
  'pack-invalid',
  'board-unsupported',
  'storage-full',
  'storage-fault',
  'download-timeout',
  'lowering',
  'load',
  'golden-mismatch',
  'latency-budget',
  'crashed',
  'hung',
  'memory',
  'crash-loop',
  'unhealthy',
] as const;
export type FailureReason = (typeof FAILURE_REASONS)[number];

export const WAITING_REASONS = ['chunk', 'storage', 'health-window', 'other-update'] as const;
export type WaitingReason = (typeof WAITING_REASONS)[number];

/** True where an update ends: nothing more follows until another release is desired. */
export function isFinal(state: State): boolean {
  return state === 'empty' || state === 'committed' || state === 'failed' || state === 'rolled-back';
}

const states: { readonly [S in State]: string } = {
  empty: 'holds no release and none is wanted',
  fetching: "fetches the pack's manifest",
  downloading: 'downloads the pack',
  verifying: 'checks every digest and the signature',
  installing: 'lowers the model for this board',
  testing: 'runs the golden vectors',
  measuring: 'measures latency against the budget',
  switching: 'switches to the new slot',
  trial: 'serves the new release inside its health window',
  committed: 'serves the release',
  failed: 'refused the release before the switch; the old slot never stopped',
  'rolled-back': 'went back to the release that worked',
};

const failures: { readonly [R in FailureReason]: string } = {
  'desired-signature': "the desired release is not signed with this controller's key, or names another device",
  'desired-replayed': 'the desired release is older than one already accepted, or differs under the same sequence',
  'pack-signature': 'the pack is not signed by a key that this device trusts',
  'pack-digest': 'the bytes that arrived are not the bytes the pack names',
  'pack-invalid': 'the pack is not well-formed',
  'board-unsupported': "the pack does not hold tolerances for this board's class",
  'storage-full': 'the storage is full',
  'storage-fault': 'the storage gave an error',
  'download-timeout': 'the pack did not arrive in time',
  lowering: 'the model could not be lowered for this board',
  load: 'the model could not be loaded',
  'golden-mismatch': 'the model does not give the expected outputs on this device',
  'latency-budget': "the model is slower on this device than the pack's budget",
  crashed: 'the model crashed its process',
  hung: 'the model did not answer in time',
  memory: 'the model took more memory than it may',
  'crash-loop': 'the device restarted too often while it tried the release',
  unhealthy: 'the release failed its health check while on trial',
};

const waits: { readonly [R in WaitingReason]: string } = {
  chunk: 'waits for a part of the pack that it asked for',
  storage: 'waits to try the storage again',
  'health-window': 'waits for the health window to end',
  'other-update': 'waits for the update of another model on this device',
};

/** What a device in this state does, to follow the device's name: "pi-1 downloads the pack". */
export const describeState = (state: State): string => states[state];
/** Why a release was refused, as a clause. */
export const describeFailure = (reason: FailureReason): string => failures[reason];
/** What a device waits for, to follow the device's name. */
export const describeWaiting = (reason: WaitingReason): string => waits[reason];
