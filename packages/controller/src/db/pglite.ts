import { execFile } from 'node:child_process';
import { access, cp, mkdir, rename, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { PGlite } from '@electric-sql/pglite';
import type { PostgresPool, PostgresPoolClient } from 'kysely';

/**
 * WebAssembly is compiled once and fast, not a second time and well: a controller's queries are small, and the second
 * compiler's work is most of what its start takes (3 s of processor time, and 60 MB that stay; measured with 1000 upserts).
 */
const COMPILE_ONCE = '--liftoff-only';

/**
 * PGlite behind the face of a `pg` pool, so that Kysely's PostgreSQL dialect serves both databases. There is one
 * connection: whoever has it, has it until release.
 * @param template a folder that holds, or shall hold, an empty database to start from
 */
export async function openPglite(dir: string, template?: string): Promise<PostgresPool> {
  await initialise(dir, template);
  setFlagsFromString(COMPILE_ONCE);
  const db = await PGlite.create({ dataDir: dir });
  let free = Promise.resolve();
  return {
    async connect() {
      const before = free;
      let release = (): void => undefined;
      free = new Promise((resolve) => {
        release = resolve;
      });
      await before;
      return { query: query(db), release } as PostgresPoolClient;
    },
    async end() {
      await free;
      await db.close();
    },
  };
}

/** Only the form of `query` that Kysely uses without a cursor. */
function query(db: PGlite) {
  return async (text: string, parameters: readonly unknown[]) => {
    const { rows, command, rowCount, affectedRows } = await db.query(text, [...parameters]);
    return { rows, command, rowCount: rowCount ?? affectedRows ?? 0 };
  };
}

/**
 * A database that does not exist yet is made beside its place and renamed, so that a kill leaves no half of one.
 * Making one takes some 5 seconds of processor time; copying one that was made before, a tenth of one.
 */
async function initialise(dir: string, template: string | undefined): Promise<void> {
  if (await exists(dir)) return;
  const fresh = `${dir}.new`;
  await rm(fresh, { recursive: true, force: true });
  await mkdir(dirname(dir), { recursive: true });
  if (template !== undefined && (await exists(template))) await cp(template, fresh, { recursive: true });
  else {
    await initdb(fresh);
    if (template !== undefined) await keepAsTemplate(fresh, template);
  }
  await rename(fresh, dir);
}

/** In a process of its own, because it takes some 500 MB that WebAssembly memory never gives back. */
async function initdb(dir: string): Promise<void> {
  const pglite = createRequire(import.meta.url).resolve('@electric-sql/pglite');
  const script = 'require(process.argv[1]).PGlite.create({ dataDir: process.argv[2] }).then((db) => db.close())';
  await promisify(execFile)(process.execPath, [COMPILE_ONCE, '-e', script, pglite, dir], {
    env: { PATH: process.env['PATH'] },
  });
}

/** A template is only there to save time: failing to keep one is no error, nor is another starter's being faster. */
async function keepAsTemplate(dir: string, template: string): Promise<void> {
  const beside = `${template}.${process.pid}`;
  try {
    await cp(dir, beside, { recursive: true });
    await rename(beside, template);
  } catch {
    await rm(beside, { recursive: true, force: true });
  }
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
