import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/**
 * What every test's controller copies its database from, and the demo's too: the first one makes it (7 s of processor
 * time), and setting up anew removes it.
 */
export const databaseTemplate = fileURLToPath(new URL('../../../../.cache/database-template', import.meta.url));

export const dataDir = (): Promise<string> => mkdtemp(join(tmpdir(), 'flotilla-controller-'));
