import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Vitest's global set-up: whatever tests leave in the system's temporary folder goes with the run that made it. */
export async function setup(): Promise<() => Promise<void>> {
  const scratch = await mkdtemp(join(tmpdir(), 'flotilla-tests-'));
  // PostgreSQL refuses to run as root: the user that it runs as must get to its folder in here.
  await chmod(scratch, 0o711);
  process.env['TMPDIR'] = scratch;
  // A disk that a failed test left mounted stays; so does nothing else.
  return () => rm(scratch, { recursive: true, force: true, maxRetries: 3 }).catch(() => undefined);
}
