import type { Clock } from './clock.ts';

/** What the parts of a running controller share. */
export interface World {
  readonly clock: Clock;
  /** A fault that no caller waits for. */
  readonly onError: (error: unknown) => void;
  /** A fault with which the controller cannot go on. */
  readonly onFatal: (error: Error) => void;
  /** Aborted when the controller closes. */
  readonly signal: AbortSignal;
  /** What to do then; the last one said is done first. */
  readonly onClose: (undo: () => Promise<unknown>) => void;
}
