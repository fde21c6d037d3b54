import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** What every test's controller copies its database from; the first one makes it. */
export const databaseTemplate = join(tmpdir(), 'flotilla-test-database-2');

export const dataDir = (): Promise<string> => mkdtemp(join(tmpdir(), 'flotilla-controller-'));
