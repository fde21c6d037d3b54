import type { Kysely, Transaction } from 'kysely';
import { isConnectionFault } from './open.ts';
import type { Tables } from './schema.ts';

const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5000;

/**
 * Runs a transaction, again and again while the database is away: a decision must neither be lost nor taken twice. The
 * work must be repeatable, for a connection that breaks during the commit leaves open whether it was done.
 */
export async function persist<T>(
  db: Kysely<Tables>,
  work: (trx: Transaction<Tables>) => Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
    try {
      return await db.transaction().execute(work);
    } catch (error) {
      if (!isConnectionFault(error) || signal.aborted) throw error;
      await pause(pauseMs, signal);
    }
  }
}

const pause = (ms: number, signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener('abort', done);
  });
