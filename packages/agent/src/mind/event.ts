import type { DesiredRelease, FailureReason, State, WaitingReason } from '@flotilla/protocol';
import type { Installed, ModelRecord, Piece, SlotName } from './state.ts';

/** An update's work is known by its model and sequence: a result that carries another one is stale. */
export interface Job {
  readonly name: string;
  readonly sequence: number;
}
/** `deadline` of a step; `retry` of asked pieces; `window` of health; `check` of the loaded model; `reload` after a loss. */
export type TimerName = 'deadline' | 'retry' | 'window' | 'check' | 'reload';

export type AgentEvent =
  /** The agent started and read its store. Only the first one counts. */
  | { readonly kind: 'booted'; readonly records: readonly ModelRecord[] }
  | { readonly kind: 'link-up' }
  | { readonly kind: 'link-down' }
  /** Its signature, device and model name were found good. */
  | { readonly kind: 'desired'; readonly release: DesiredRelease }
  /** They were not; the sequence and digest are only what it claims. */
  | ({ readonly kind: 'desired-refused'; readonly digest: string; readonly detail: string } & Job)
  /**
   * What of the release is on the device. `manifest`: only after it can the rest be known. `factors`: with these the model
   * can be made here, and is not among what is missing.
   */
  | ({
      readonly kind: 'planned';
      readonly stage: 'manifest' | 'factors' | 'blobs';
      readonly missing: readonly Piece[];
      readonly done: number;
      readonly total: number;
    } & Job)
  | { readonly kind: 'piece-arrived'; readonly digest: string; readonly offset: number; readonly data: Uint8Array }
  | ({ readonly kind: 'piece-stored'; readonly piece: Piece } & Job)
  /** A whole blob did not hash to its digest; it was removed. */
  | ({ readonly kind: 'blob-damaged'; readonly digest: string } & Job)
  /** The model was made of its base; or, with why not, is to be fetched. */
  | ({ readonly kind: 'rebuilt'; readonly problem: string | undefined } & Job)
  | ({ readonly kind: 'verified' | 'installed' | 'tested' | 'switched' } & Job)
  | ({ readonly kind: 'measured'; readonly p50Us: number; readonly budgetUs: number | undefined } & Job)
  /** Work of this step, or of any where it is undefined, ended badly. */
  | ({
      readonly kind: 'refused';
      readonly step: string | undefined;
      readonly reason: FailureReason;
      readonly detail: string;
    } & Job)
  /** What could not be written; nothing of it counts. */
  | ({
      readonly kind: 'storage-failed';
      readonly reason: 'storage-full' | 'storage-fault';
      readonly detail: string;
    } & Job)
  | { readonly kind: 'serving' | 'checked'; readonly name: string; readonly digest: string }
  /** A loaded model crashed, hung, outgrew its memory, failed its check, or could not be loaded again. */
  | {
      readonly kind: 'lost';
      readonly name: string;
      readonly digest: string;
      readonly reason: FailureReason;
      readonly detail: string;
    }
  | ({ readonly kind: 'timer'; readonly timer: TimerName; readonly step: string } & Job);

export type EventOf<K extends AgentEvent['kind']> = Extract<AgentEvent, { readonly kind: K }>;

/** What a report says; the interpreter adds session, counter and time. */
export interface ReportBody {
  readonly name: string;
  readonly state: State;
  readonly sequence: number;
  readonly releaseDigest: string;
  readonly loadedDigest: string;
  readonly reason: FailureReason | undefined;
  readonly detail: string;
  readonly waiting: WaitingReason | undefined;
  readonly bytesDone: number;
  readonly bytesTotal: number;
}

/**
 * Carried out in order. What writes records and removes slots is awaited, and where a save fails the rest of its list is dropped:
 * nothing happens on the strength of a record that is not on the disk. The others run on, and their results come back
 * as events.
 */
export type Effect =
  | { readonly kind: 'save'; readonly record: ModelRecord }
  /** Saves the record that points to the new slot. This write is the switch. → `switched` */
  | { readonly kind: 'switch'; readonly record: ModelRecord }
  /** Removes what an update left: the folder it was gathered in, and every slot but `keep`. */
  | { readonly kind: 'clean'; readonly name: string; readonly keep: readonly SlotName[] }
  /** Makes room: the release before the active one is given up. */
  | { readonly kind: 'drop-slot'; readonly name: string; readonly slot: SlotName }
  /** Marks a slot as one that was committed, for the day when the record is lost. */
  | ({ readonly kind: 'mark-committed'; readonly installed: Installed } & Job)
  /** → `planned` */
  | { readonly kind: 'plan'; readonly release: DesiredRelease }
  | ({ readonly kind: 'ask'; readonly piece: Piece } & Job)
  /** → `piece-stored`, `blob-damaged` */
  | ({ readonly kind: 'store'; readonly piece: Piece; readonly data: Uint8Array } & Job)
  /** Makes the model of its base and the factors, if that takes no longer. → `rebuilt` */
  | { readonly kind: 'rebuild'; readonly release: DesiredRelease; readonly timeoutMs: number }
  /** Every digest and the pack's signature. → `verified` */
  | { readonly kind: 'verify'; readonly release: DesiredRelease }
  /** Moves the pack into the slot, lowers it for the board and loads it beside what serves. → `installed` */
  | { readonly kind: 'install'; readonly release: DesiredRelease; readonly slot: SlotName }
  /** Golden vectors. → `tested` */
  | ({ readonly kind: 'test' } & Job)
  /** Latency on golden inputs. → `measured` */
  | ({ readonly kind: 'measure' } & Job)
  /** Ends the update's work and unloads its candidate. */
  | { readonly kind: 'cancel'; readonly name: string }
  /** Serve this slot and nothing else under the name. → `serving`, `lost` */
  | ({ readonly kind: 'serve'; readonly name: string } & Installed)
  | { readonly kind: 'unload'; readonly name: string }
  /** Run the golden vectors on what serves. → `checked`, `lost` */
  | { readonly kind: 'check'; readonly name: string; readonly digest: string }
  /** Replaces a running timer of the same model and name. */
  | ({ readonly kind: 'start-timer'; readonly timer: TimerName; readonly step: string; readonly ms: number } & Job)
  | { readonly kind: 'stop-timers'; readonly name: string; readonly timers: readonly TimerName[] }
  | ({ readonly kind: 'report' } & ReportBody);

export type EffectOf<K extends Effect['kind']> = Extract<Effect, { readonly kind: K }>;

export interface Step<S> {
  readonly state: S;
  readonly effects: readonly Effect[];
}
