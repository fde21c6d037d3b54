import { cp, mkdtemp, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openDatabase } from '../../src/db/open.ts';

const template = join(tmpdir(), 'flotilla-test-database-1');

/** A data folder with a database in it already: making one takes seconds, copying it a tenth of one. */
export async function dataDir(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'flotilla-controller-'));
  try {
    await cp(join(template, 'db'), join(dir, 'db'), { recursive: true });
  } catch {
    await rm(dir, { recursive: true, force: true });
    await makeTemplate();
    return dataDir();
  }
  return dir;
}

async function makeTemplate(): Promise<void> {
  const fresh = await mkdtemp(join(tmpdir(), 'flotilla-template-'));
  await (await openDatabase(fresh)).destroy();
  // Another test file may have been faster.
  await rename(fresh, template).catch(() => rm(fresh, { recursive: true, force: true }));
}
