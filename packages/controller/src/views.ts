import type { Birth, FailureReason, State, WaitingReason } from '@flotilla/protocol';
import type { DeviceStatus, RolloutPhase, Why } from './rollout/state.ts';

/** The shapes of the HTTP API's answers; times are Unix epoch milliseconds. */
export interface Identity {
  readonly device: string;
  readonly fleet: string;
  readonly board: string;
  readonly brokerUrl: string;
  /** Shown this once; the controller keeps a hash. */
  readonly secret: string;
  /** PEM of the Ed25519 key that signs desired releases. */
  readonly controllerKey: string;
  /** PEM each; a pack must be signed by one of them. */
  readonly trustedPackKeys: readonly string[];
}

export interface ModelView {
  readonly name: string;
  readonly state: State | null;
  /** Of the release that is loaded, if it is one this controller knows. */
  readonly version: string | null;
  readonly loadedDigest: string | null;
  readonly releaseDigest: string | null;
  readonly reason: FailureReason | null;
  readonly detail: string;
  readonly waiting: WaitingReason | null;
  readonly bytesDone: number;
  readonly bytesTotal: number;
  readonly receivedAtMs: number | null;
  readonly desired: { readonly version: string; readonly digest: string; readonly sequence: number } | null;
}

export interface DeviceView {
  readonly id: string;
  readonly fleet: string;
  readonly board: string;
  readonly name: string;
  readonly tags: readonly string[];
  readonly online: boolean;
  readonly seenAtMs: number | null;
  readonly createdAtMs: number;
  readonly birth: Birth | null;
  readonly models: readonly ModelView[];
}

export interface PackView {
  readonly digest: string;
  readonly name: string;
  readonly task: string;
  readonly bytes: number;
  readonly signedBy: string | null;
}

export interface ReleaseView {
  readonly name: string;
  readonly version: string;
  readonly digest: string;
  readonly createdAtMs: number;
}

export interface RolloutDeviceView {
  readonly device: string;
  readonly board: string;
  readonly name: string;
  readonly role: 'canary' | 'rest';
  readonly status: DeviceStatus;
  readonly why: Why | null;
  /** `why` in words, to follow the device's name; null once done. */
  readonly sentence: string | null;
  readonly sinceMs: number;
  readonly state: State | null;
  readonly failure: FailureReason | null;
  /** It failed, and a person resumed the rollout knowing it. */
  readonly acknowledged: boolean;
  readonly detail: string;
  readonly bytesDone: number;
  readonly bytesTotal: number;
  readonly sequence: number;
}

export interface RolloutView {
  readonly id: string;
  readonly release: { readonly name: string; readonly version: string; readonly digest: string };
  readonly to: string;
  readonly canary: number;
  readonly phase: RolloutPhase;
  readonly healthWindowMs: number;
  readonly stateDeadlineMs: number;
  readonly createdAtMs: number;
  readonly endedAtMs: number | null;
  /** Since when it is held up; null while it runs. */
  readonly pausedAtMs: number | null;
  readonly counts: { readonly [S in DeviceStatus]: number };
  /** What stopped it, or would if it were not paused: the device that failed first, in words. */
  readonly reason: string | null;
  readonly devices: readonly RolloutDeviceView[];
}

export interface AnswerView {
  readonly digest: string;
  readonly text: string;
  readonly tokens: number;
  readonly timeToFirstTokenMs: number;
  readonly tokensPerSecond: number;
}
