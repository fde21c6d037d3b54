import type { Birth, Call } from '@flotilla/protocol';
import type { RebuildPlan } from '@flotilla/runtime';

/** With the link, everything that the agent knows of the world. Tests give it worlds of their own. */
export interface AgentPorts {
  readonly clock: Clock;
  /** Uniform in [0, 1). */
  readonly random: () => number;
  readonly disk: Disk;
  readonly engine: Engine;
}

export interface Clock {
  /** Unix epoch; may be wrong by years and may jump. */
  nowMs(): number;
  /** @returns stops it */
  after(ms: number, act: () => void): () => void;
}

/** The writing calls resolve when what they did would survive a power cut. Errors are the system's. */
export interface Disk {
  /** Undefined if there is nothing. */
  read(path: string): Promise<Uint8Array | undefined>;
  size(path: string): Promise<number | undefined>;
  /** `sha256:<hex>`; undefined if there is nothing. */
  digest(path: string): Promise<string | undefined>;
  /** Names in a folder, sorted; none if there is no folder. */
  list(path: string): Promise<readonly string[]>;
  freeBytes(path: string): Promise<number>;
  makeFolder(path: string): Promise<void>;
  /** A whole file: the old one or the new one is there at any moment. */
  write(path: string, bytes: Uint8Array): Promise<void>;
  /** A part of a file, made if need be. A power cut may leave a part of the part. */
  writeAt(path: string, offset: number, bytes: Uint8Array): Promise<void>;
  move(from: string, to: string): Promise<void>;
  /** A second name for a file. Not every file system has such. */
  link(from: string, to: string): Promise<void>;
  copy(from: string, to: string): Promise<void>;
  /** A file or a folder with all in it; nothing is fine too. */
  remove(path: string): Promise<void>;
}

/** What comes from the controller. Payloads are as they came, not to be trusted. */
export interface LinkEvents {
  readonly up: () => void;
  readonly down: (why: string) => void;
  readonly desired: (name: string, payload: Uint8Array) => void;
  readonly chunk: (payload: Uint8Array) => void;
  readonly call: (payload: Uint8Array) => void;
  /** The link is over for good: another agent with this identity, or credentials refused. */
  readonly fatal: (error: Error) => void;
}

export interface Link {
  start(events: LinkEvents, birth: () => Promise<Birth>): void;
  /** True between `up` and `down`. */
  readonly online: boolean;
  /** Of the connection, or of the last one. */
  readonly session: number;
  /** Lost without a link, except what may wait: a few telemetry messages and answers. */
  publish(message: Outgoing): void;
  close(): Promise<void>;
}
export type Outgoing =
  | { readonly kind: 'reported'; readonly name: string; readonly payload: Uint8Array }
  | { readonly kind: 'telemetry' | 'answer' | 'fetch'; readonly payload: Uint8Array };

/** Loads models, each in a process of its own. */
export interface Engine {
  readonly version: string;
  /** The board that it loads models for. */
  readonly board: string;
  readonly boardClass: string;
  /** Refuses with {@link Refusal}. @param folder `pack/` is there, `lowered/` may be written */
  load(folder: string, options: { readonly signal: AbortSignal }): Promise<LoadedModel>;
  /** Makes a model's file of its base's and an adapter's factors. Whether it is the right one is for the caller to see. */
  rebuild(plan: RebuildPlan, options: { readonly signal: AbortSignal; readonly timeoutMs: number }): Promise<void>;
}

/** Its methods throw {@link Refusal}; after `crashed`, `hung` or `memory` the model is of no more use. */
export interface LoadedModel {
  readonly digest: string;
  readonly task: 'tensor' | 'text';
  /** On the median of a run on golden inputs, for this board. */
  readonly budgetUs: number | undefined;
  /** Refuses with `golden-mismatch`. */
  golden(signal: AbortSignal): Promise<void>;
  /** Runs the golden inputs for so long. */
  measure(ms: number, signal: AbortSignal): Promise<Measured>;
  generate(call: Call, signal: AbortSignal): Promise<Generated>;
  close(): Promise<void>;
}

export interface Measured {
  readonly p50Us: number;
  readonly histogram: Uint8Array;
  readonly throughputPerS: number;
  readonly peakRssBytes: number;
  readonly pssBytes: number;
  readonly weightsBytes: number;
  readonly windowMs: number;
  /** Text models only: the median. */
  readonly timeToFirstTokenUs?: number | undefined;
  /** Text models only. */
  readonly tokensPerSecond?: number | undefined;
}

export interface Generated {
  readonly text: string;
  readonly tokens: number;
  readonly timeToFirstTokenUs: number;
  readonly tokensPerSecond: number;
}
