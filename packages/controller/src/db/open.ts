import { join } from 'node:path';
import { Kysely, Migrator, PostgresDialect, type PostgresPool } from 'kysely';
import pg from 'pg';
import { ControllerError } from '../errors.ts';
import { migrationProvider } from './migrations.ts';
import { openPglite } from './pglite.ts';
import type { Database, Tables } from './schema.ts';

/**
 * Opens the database and brings its tables up to date.
 * @param url PostgreSQL; without it an embedded database in `<dataDir>/db`
 * @throws {ControllerError} `controller/database`
 */
export async function openDatabase(dataDir: string, url?: string): Promise<Database> {
  try {
    const pool = url === undefined ? await openPglite(join(dataDir, 'db')) : connectPostgres(url);
    const db = new Kysely<Tables>({ dialect: new PostgresDialect({ pool }) });
    const { error } = await new Migrator({ db, provider: migrationProvider }).migrateToLatest();
    if (error === undefined) return db;
    await db.destroy();
    throw error;
  } catch (cause) {
    const where = url === undefined ? join(dataDir, 'db') : hideSecrets(url);
    throw new ControllerError('controller/database', `cannot open ${where}: ${sentence(cause)}`, {
      where,
      cause,
      hint: url === undefined ? 'check the disk and its permissions' : 'check that PostgreSQL runs there',
    });
  }
}

function connectPostgres(url: string): PostgresPool {
  const types = new pg.TypeOverrides();
  // Every bigint here stays below 2^53 (see the protocol); pg hands them over as text.
  types.setTypeParser(pg.types.builtins.INT8, Number);
  const pool = new pg.Pool({ connectionString: url, max: 4, connectionTimeoutMillis: 10_000, types });
  // An idle connection that breaks is replaced at the next query; without a listener it would end the process.
  pool.on('error', () => undefined);
  return pool as unknown as PostgresPool;
}

/** True for what may pass by itself: the server went away, restarts, or has no connection to spare. */
export function isConnectionFault(error: unknown): boolean {
  const { code, message } = error as { code?: unknown; message?: unknown };
  const known = [
    'ECONNREFUSED',
    'ECONNRESET',
    'EPIPE',
    'ETIMEDOUT',
    '57P01',
    '57P02',
    '57P03',
    '53300',
    '08006',
    '08001',
  ];
  if (typeof code === 'string' && known.includes(code)) return true;
  return typeof message === 'string' && /connection terminated|timeout exceeded when trying to connect/i.test(message);
}

const sentence = (cause: unknown): string =>
  cause instanceof AggregateError && cause.errors[0] instanceof Error
    ? cause.errors[0].message
    : cause instanceof Error
      ? (cause.message.split('\n')[0] ?? '')
      : String(cause);

function hideSecrets(url: string): string {
  try {
    const parsed = new URL(url);
    parsed.password = '';
    return parsed.href;
  } catch {
    return 'the database URL';
  }
}
