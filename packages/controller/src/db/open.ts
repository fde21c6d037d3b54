import { join } from 'node:path';
import { Kysely, Migrator, PostgresDialect, type PostgresPool } from 'kysely';
import pg from 'pg';
import { ControllerError } from '../errors.ts';
import { migrationProvider } from './migrations.ts';
import { openPglite } from './pglite.ts';
import { PostgresLock } from './postgres-lock.ts';
import type { Database, Tables } from './schema.ts';

/**
 * Opens the database and brings its tables up to date.
 * @param url PostgreSQL; without it an embedded database in `<dataDir>/db`
 * @param template see `databaseTemplate` of the controller's options
 * @param onTaken told when another controller took the PostgreSQL database while it was away
 * @throws {ControllerError} `controller/database`; `controller/locked` where another controller works on it
 */
export async function openDatabase(
  dataDir: string,
  { url, template }: { readonly url?: string | undefined; readonly template?: string | undefined },
  onTaken: (error: ControllerError) => void,
): Promise<Database> {
  try {
    const pool = url === undefined ? await openPglite(join(dataDir, 'db'), template) : connectPostgres(url, onTaken);
    const db = new Kysely<Tables>({ dialect: new PostgresDialect({ pool }) });
    const { error } = await new Migrator({ db, provider: migrationProvider }).migrateToLatest();
    if (error === undefined) return db;
    await db.destroy();
    throw error;
  } catch (cause) {
    if (cause instanceof ControllerError) throw cause;
    const where = url === undefined ? join(dataDir, 'db') : hideSecrets(url);
    throw new ControllerError('controller/database', `cannot open ${where}: ${sentence(cause)}`, {
      where,
      cause,
      hint: url === undefined ? 'check the disk and its permissions' : 'check that PostgreSQL runs there',
    });
  }
}

function connectPostgres(url: string, onTaken: (error: ControllerError) => void): PostgresPool {
  if (!/^postgres(?:ql)?:\/\//.test(url)) throw new Error('not postgres://USER@HOST/DATABASE');
  const types = new pg.TypeOverrides();
  // Every bigint here stays below 2^53 (see the protocol); pg hands them over as text.
  types.setTypeParser(pg.types.builtins.INT8, Number);
  const pool = new pg.Pool({ connectionString: url, max: 4, connectionTimeoutMillis: 10_000, types });
  // An idle connection that breaks is replaced at the next query; without a listener it would end the process.
  pool.on('error', () => undefined);
  // So would one that breaks between two statements of a transaction; the next statement says it.
  pool.on('connect', (client) => client.on('error', () => undefined));
  const lock = new PostgresLock(url, onTaken);
  const connected = pool as unknown as PostgresPool;
  return {
    async connect() {
      await lock.hold();
      return connected.connect();
    },
    async end() {
      await connected.end();
      await lock.release();
    },
  };
}

const CONNECTION_CODES: readonly unknown[] = [
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  '53300', // too many connections
  '57P01', // shut down by an administrator
  '57P02', // a crash of another session
  '57P03', // starting up
];
const CONNECTION_WORDS = /connection terminated|timeout exceeded when trying to connect|is not queryable/i;

/** True for what may pass by itself: the server went away, restarts, or has no connection to spare. */
export function isConnectionFault(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return CONNECTION_CODES.includes((error as { code?: unknown }).code) || CONNECTION_WORDS.test(error.message);
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
