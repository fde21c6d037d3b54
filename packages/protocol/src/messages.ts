import { flotilla } from '../generated/flotilla.js';
import { type Codec, codec, message, type WireType } from './codec.ts';
import { ProtocolError } from './errors.ts';
import * as field from './fields.ts';
import {
  FAILURE_REASONS,
  type FailureReason,
  STATES,
  type State,
  WAITING_REASONS,
  type WaitingReason,
} from './states.ts';

const wire = flotilla.v1 as unknown as { readonly [name: string]: WireType };
const of = (name: string): WireType => wire[name] as WireType;

/** The version of this protocol; also the `v1` of its topics. */
export const PROTOCOL = 1;
/** Most bytes that one fetch may ask for. */
export const CHUNK_BYTES = 262_144;

/** Most statements on keys that a desired release may carry. */
export const MAX_SUCCESSIONS = 16;

/** What a device is, told at every connect. */
export interface Birth {
  readonly agentVersion: string;
  readonly runtimeVersion: string;
  readonly board: string;
  readonly boardClass: string;
  readonly ramBytes: number;
  readonly freeStorageBytes: number;
}
const Birth = message<Birth>(
  {
    agentVersion: field.text(64),
    runtimeVersion: field.text(64),
    board: field.text(64),
    boardClass: field.text(64),
    ramBytes: field.uint64,
    freeStorageBytes: field.uint64,
  },
  'Birth',
);

/** Retained on `presence`; the will is the same with `online: false` and no birth. */
export interface Presence {
  readonly protocol: number;
  readonly session: number;
  readonly online: boolean;
  /** Chosen at the start of the agent's process and kept through its reconnects: tells two agents with one identity apart. */
  readonly instance: number;
  readonly birth: Birth | undefined;
}
export const Presence: Codec<Presence> = codec<Presence>(
  'Presence',
  of('Presence'),
  {
    protocol: field.uint32,
    session: field.uint64,
    online: field.bool,
    instance: field.uint64,
    birth: field.optional(Birth),
  },
  4096,
  ({ protocol }) => {
    if (protocol !== PROTOCOL)
      throw new ProtocolError('protocol/version', `peer speaks protocol ${protocol}, this is ${PROTOCOL}`, {
        where: 'Presence.protocol',
      });
  },
);

/** Retained on `reported/<name>`. Empty digests mean "none". */
export interface Reported {
  readonly session: number;
  /** Grows with every report of the device, across restarts. */
  readonly counter: number;
  readonly name: string;
  readonly state: State;
  /** Of the desired release that this is about; 0 before the first. */
  readonly sequence: number;
  readonly releaseDigest: string;
  /** Pack digest of the model that is loaded now: the only proof of success. */
  readonly loadedDigest: string;
  readonly reason: FailureReason | undefined;
  /** One line for people. */
  readonly detail: string;
  readonly waiting: WaitingReason | undefined;
  readonly bytesDone: number;
  readonly bytesTotal: number;
  /** Device clock, Unix epoch; may be wrong by years. */
  readonly atMs: number;
}
export const Reported: Codec<Reported> = codec<Reported>(
  'Reported',
  of('Reported'),
  {
    session: field.uint64,
    counter: field.uint64,
    name: field.name,
    state: field.oneOf(STATES),
    sequence: field.uint64,
    releaseDigest: field.digestOrNone,
    loadedDigest: field.digestOrNone,
    reason: field.optional(field.oneOf(FAILURE_REASONS)),
    detail: field.text(512),
    waiting: field.optional(field.oneOf(WAITING_REASONS)),
    bytesDone: field.uint64,
    bytesTotal: field.uint64,
    atMs: field.uint64,
  },
  4096,
);

/** Latency and memory over one window, on `telemetry`. */
export interface Telemetry {
  readonly session: number;
  readonly counter: number;
  readonly name: string;
  readonly digest: string;
  /** HDR histogram, as `LatencyRecorder.encode()` of the runtime writes it; microseconds. */
  readonly latencyHistogram: Uint8Array;
  readonly throughputPerS: number;
  readonly peakRssBytes: number;
  /** 0: unknown. */
  readonly pssBytes: number;
  readonly weightsBytes: number;
  readonly windowMs: number;
  readonly failures: number;
  /** Text models: median of the window. */
  readonly timeToFirstTokenUs?: number | undefined;
  /** Text models: of the tokens behind the first. */
  readonly tokensPerSecond?: number | undefined;
}
export const Telemetry: Codec<Telemetry> = codec<Telemetry>(
  'Telemetry',
  of('Telemetry'),
  {
    session: field.uint64,
    counter: field.uint64,
    name: field.name,
    digest: field.digest,
    latencyHistogram: field.bytes(32_768),
    throughputPerS: field.double,
    peakRssBytes: field.uint64,
    pssBytes: field.uint64,
    weightsBytes: field.uint64,
    windowMs: field.uint64,
    failures: field.uint64,
    timeToFirstTokenUs: field.optional(field.uint32),
    tokensPerSecond: field.optional(field.double),
  },
  40_960,
);

/** Asks for `length` bytes of a blob, on `fetch`; the answer is a Chunk. */
export interface FetchRequest {
  readonly session: number;
  readonly digest: string;
  readonly offset: number;
  /** 1 to 262144; the last chunk of a blob may come back shorter. */
  readonly length: number;
}
export const FetchRequest: Codec<FetchRequest> = codec<FetchRequest>(
  'FetchRequest',
  of('FetchRequest'),
  { session: field.uint64, digest: field.digest, offset: field.uint64, length: field.uint32 },
  1024,
  ({ length }) => {
    if (length < 1 || length > CHUNK_BYTES) throw field.bad('FetchRequest.length', `is not 1 to ${CHUNK_BYTES}`);
  },
);

/** Retained on `desired/<name>`. See signDesired and verifyDesired. */
export interface Desired {
  /** An encoded DesiredRelease, byte for byte as it was signed. */
  readonly signed: Uint8Array;
  readonly keyId: string;
  readonly signature: Uint8Array;
  /** How to come from keys that a device trusts to those in use: `Succession.bytes` of the pack room. */
  readonly successions: readonly Uint8Array[];
}
export const Desired: Codec<Desired> = codec<Desired>(
  'Desired',
  of('Desired'),
  {
    signed: field.bytes(4096),
    keyId: field.digest,
    signature: field.bytes(64),
    successions: field.list(field.bytes(128), MAX_SUCCESSIONS),
  },
  8192,
);

/** Which release a device shall hold under a name. */
export interface DesiredRelease {
  readonly device: string;
  readonly name: string;
  /** From 1; grows per device and name. An older one is a replay. */
  readonly sequence: number;
  /** Of the pack's manifest. */
  readonly digest: string;
  readonly manifestBytes: number;
  readonly totalBytes: number;
  readonly version: string;
  readonly healthWindowMs: number;
  /** The longest the agent may stay in one state. */
  readonly stateDeadlineMs: number;
}
export const DesiredRelease: Codec<DesiredRelease> = codec<DesiredRelease>(
  'DesiredRelease',
  of('DesiredRelease'),
  {
    device: field.name,
    name: field.name,
    sequence: field.uint64,
    digest: field.digest,
    manifestBytes: field.uint64,
    totalBytes: field.uint64,
    version: field.text(64),
    healthWindowMs: field.uint32,
    stateDeadlineMs: field.uint32,
  },
  4096,
  ({ sequence }) => {
    if (sequence < 1) throw field.bad('DesiredRelease.sequence', 'is 0; the first release is 1');
  },
);

/** A piece of a blob, on `chunk`. */
export interface Chunk {
  readonly digest: string;
  readonly offset: number;
  readonly blobBytes: number;
  readonly data: Uint8Array;
  /** Empty, or why there is no data: 'not-found', 'bad-range'. */
  readonly error: string;
}
export const Chunk: Codec<Chunk> = codec<Chunk>(
  'Chunk',
  of('Chunk'),
  {
    digest: field.digest,
    offset: field.uint64,
    blobBytes: field.uint64,
    data: field.bytes(CHUNK_BYTES),
    error: field.text(64),
  },
  CHUNK_BYTES + 512,
);

/** A request to a loaded model, on `call`. */
export interface Call {
  readonly id: string;
  readonly name: string;
  readonly prompt: string;
  readonly maxTokens: number;
  /** Above 0: run the golden inputs for so long and publish telemetry; `prompt` is not looked at. */
  readonly benchMs: number;
  /** Above 0: tokens are drawn. Absent: the best are taken. */
  readonly temperature?: number | undefined;
  /** What the draws come from. Absent: another one each time. */
  readonly seed?: number | undefined;
  /** JSON Schema, as text, that the answer is valid against. */
  readonly schema?: string | undefined;
  /** One of those that lie beside the model in its pack. Absent: the model alone. */
  readonly adapter?: string | undefined;
}
export const Call: Codec<Call> = codec<Call>(
  'Call',
  of('Call'),
  {
    id: field.text(64),
    name: field.name,
    prompt: field.text(16_384),
    maxTokens: field.uint32,
    benchMs: field.uint32,
    temperature: field.optional(field.double),
    seed: field.optional(field.uint32),
    schema: field.optional(field.text(16_384)),
    adapter: field.optional(field.text(256)),
  },
  65_536,
);

/** The answer to the Call of the same id, on `answer`. */
export interface Answer {
  readonly id: string;
  /** Of the pack that answered; empty with an error. */
  readonly digest: string;
  readonly text: string;
  readonly tokens: number;
  readonly timeToFirstTokenUs: number;
  readonly tokensPerSecond: number;
  /** Empty, or `code: what`. */
  readonly error: string;
}
export const Answer: Codec<Answer> = codec<Answer>(
  'Answer',
  of('Answer'),
  {
    id: field.text(64),
    digest: field.digestOrNone,
    text: field.text(65_536),
    tokens: field.uint32,
    timeToFirstTokenUs: field.uint64,
    tokensPerSecond: field.double,
    error: field.text(512),
  },
  262_144,
);
