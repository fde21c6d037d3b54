import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Vitest's global set-up: whatever tests leave in the system's temporary folder goes with the run that made it. */
export async function setup(): Promise<() => Promise<void>> {
  const scratch = await mkdtemp(join(tmpdir(), 'flotilla-tests-'));
  process.env['TMPDIR'] = scratch;
  // A disk that a failed test left mounted stays; so does nothing else.
  return () => rm(scratch, { recursive: true, force: true, maxRetries: 3 }).catch(() => undefined);
}
