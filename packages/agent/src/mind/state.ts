import type { DesiredRelease, FailureReason } from '@flotilla/protocol';

/** One of the two places that a model's pack can lie in. */
export type SlotName = 'a' | 'b';
export interface Installed {
  readonly slot: SlotName;
  readonly digest: string;
}

/** A range of a blob that travels as one message. */
export interface Piece {
  readonly digest: string;
  readonly offset: number;
  readonly length: number;
}

/** Steps of an update, in the order in which they happen. `waiting`: another model is being updated. */
export const STEPS = [
  'waiting',
  'fetching',
  'downloading',
  'verifying',
  'installing',
  'testing',
  'measuring',
  'switching',
  'trial',
] as const;
export type StepName = (typeof STEPS)[number];

/** Where an update of one model stands. */
export type Phase =
  | { readonly at: 'empty' | 'committed' }
  | { readonly at: 'failed' | 'rolled-back'; readonly reason: FailureReason; readonly detail: string }
  | { readonly at: StepName };

/** What must survive a restart, written as one document. */
export interface ModelRecord {
  readonly name: string;
  /** Highest accepted. */
  readonly sequence: number;
  /** The one of that sequence; unknown after the record was lost and rebuilt from the slots. */
  readonly release: DesiredRelease | undefined;
  /** The slot pointer. */
  readonly active: Installed | undefined;
  /** The other slot, where it holds a release that was committed once. */
  readonly fallback: Installed | undefined;
  readonly phase: Phase;
  /** Furthest step of this update, and how often the agent started since it was reached. */
  readonly furthest: number;
  readonly boots: number;
}

/** What is still to come of a pack. Not kept: the store's bitmaps are. */
export interface Download {
  readonly stage: 'manifest' | 'factors' | 'blobs';
  readonly missing: readonly Piece[];
  readonly asked: readonly Piece[];
  readonly done: number;
  readonly total: number;
  /** A piece was stored since the last look. */
  readonly moved: boolean;
}

export interface ModelState extends ModelRecord {
  /** Digest of the pack that is loaded now, or empty. */
  readonly loaded: string;
  /** Losses of the loaded model since it last passed a check. */
  readonly losses: number;
  readonly download: Download | undefined;
  /** Times that this update began again because a blob came out damaged. */
  readonly retries: number;
  /** Golden checks passed on trial, and whether the health window is over. */
  readonly checks: number;
  readonly windowOver: boolean;
  /** Order in which models wait for their turn. */
  readonly turn: number;
}

export interface AgentState {
  /** The store was read; before that nothing is answered. */
  readonly booted: boolean;
  readonly models: ReadonlyMap<string, ModelState>;
  readonly online: boolean;
  readonly nextTurn: number;
}

export const initialState: AgentState = { booted: false, models: new Map(), online: false, nextTurn: 1 };

export function newModel(record: ModelRecord): ModelState {
  return { ...record, loaded: '', losses: 0, download: undefined, retries: 0, checks: 0, windowOver: false, turn: 0 };
}

export function emptyRecord(name: string): ModelRecord {
  return {
    name,
    sequence: 0,
    release: undefined,
    active: undefined,
    fallback: undefined,
    phase: { at: 'empty' },
    furthest: 0,
    boots: 0,
  };
}

export function recordOf(model: ModelState): ModelRecord {
  const { name, sequence, release, active, fallback, phase, furthest, boots } = model;
  return { name, sequence, release, active, fallback, phase, furthest, boots };
}

/** The slot that an update may write to. */
export const targetSlot = (model: ModelRecord): SlotName => (model.active?.slot === 'a' ? 'b' : 'a');

/** True for a step that takes the device's attention; only one model may be in one. */
export const isBusy = ({ at }: Phase): boolean => at !== 'waiting' && isUpdating(at);
export const isUpdating = (at: Phase['at']): boolean => (STEPS as readonly string[]).includes(at);
