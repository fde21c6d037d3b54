import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { ControllerError } from '../errors.ts';

/** The two keys of the advisory lock; each database of a server has its own. */
const KEYS = { classid: 0x666c6f74, objid: 1 };

/** A killed controller's session ends when the server notices; so long a start waits for it. */
const PATIENCE_MS = 2000;
const PAUSE_MS = 100;

/**
 * One controller per PostgreSQL database: an advisory lock of a session, on a connection that does nothing else. Where
 * that connection is lost the lock is, too, and is taken again before the database is used again.
 */
export class PostgresLock {
  private readonly connectionString: string;
  private readonly onTaken: (error: ControllerError) => void;
  /** Names this controller's sessions among those that the server shows. */
  private readonly session = `flotilla-${randomUUID()}`;
  private client: pg.Client | undefined;
  private taking: Promise<void> | undefined;
  private taken: ControllerError | undefined;

  /** @param onTaken told when another controller took the lock while the connection was lost */
  constructor(connectionString: string, onTaken: (error: ControllerError) => void) {
    this.connectionString = connectionString;
    this.onTaken = onTaken;
  }

  /** Resolves while the lock is held. @throws {ControllerError} `controller/locked`; what pg throws, and then it may be tried again */
  async hold(): Promise<void> {
    if (this.taken !== undefined) throw this.taken;
    if (this.client !== undefined) return;
    this.taking ??= this.take().finally(() => {
      this.taking = undefined;
    });
    await this.taking;
  }

  async release(): Promise<void> {
    await this.taking?.catch(() => undefined);
    const { client } = this;
    this.client = undefined;
    await client?.end();
  }

  private async take(): Promise<void> {
    const { connectionString, session } = this;
    const client = new pg.Client({
      connectionString,
      application_name: session,
      connectionTimeoutMillis: 10_000,
      keepAlive: true,
    });
    client.on('error', () => undefined); // `end` follows
    client.on('end', () => {
      if (this.client === client) this.client = undefined;
    });
    try {
      await client.connect();
      if (!(await tryFor(client, session))) throw this.refused();
      this.client = client;
    } catch (error) {
      void client.end().catch(() => undefined);
      throw error;
    }
  }

  private refused(): ControllerError {
    const { host, pathname } = new URL(this.connectionString);
    this.taken = new ControllerError('controller/locked', `another controller works on ${host}${pathname}`, {
      where: 'database',
      hint: 'stop that controller, or give this one another database',
    });
    this.onTaken(this.taken);
    return this.taken;
  }
}

async function tryFor(client: pg.Client, session: string): Promise<boolean> {
  const { classid, objid } = KEYS;
  for (let waitedMs = 0; ; waitedMs += PAUSE_MS) {
    const { rows } = await client.query<{ held: boolean }>('select pg_try_advisory_lock($1, $2) as held', [
      classid,
      objid,
    ]);
    if (rows[0]?.held === true) return true;
    if (waitedMs >= PATIENCE_MS) return false;
    // A connection that broke on this side alone: the server still keeps the lock for this very controller.
    await client.query(
      `select pg_terminate_backend(a.pid) from pg_locks l join pg_stat_activity a on a.pid = l.pid
       where l.locktype = 'advisory' and l.classid = $1 and l.objid = $2 and l.granted
         and a.application_name = $3 and a.pid <> pg_backend_pid()`,
      [classid, objid, session],
    );
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
}
