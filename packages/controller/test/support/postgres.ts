import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { chown, mkdtemp, readdir, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { freePort } from './controller-process.ts';

/** The newest PostgreSQL that Debian's packages put here, or undefined. */
export async function findPostgres(): Promise<string | undefined> {
  const versions = await readdir('/usr/lib/postgresql').catch(() => []);
  const newest = versions.map(Number).sort((a, b) => b - a)[0];
  return newest === undefined ? undefined : `/usr/lib/postgresql/${newest}/bin`;
}

/** A server of the test's own. It refuses to run as root, so root runs it as `postgres`. */
export class Postgres {
  readonly url: string;
  private readonly bin: string;
  private readonly dir: string;
  private readonly port: number;
  private readonly as: { uid?: number; gid?: number };
  private child: ChildProcess | undefined;

  private constructor(bin: string, dir: string, port: number, as: { uid?: number; gid?: number }) {
    this.bin = bin;
    this.dir = dir;
    this.port = port;
    this.as = as;
    this.url = `postgres://flotilla@127.0.0.1:${port}/postgres`;
  }

  static async create(bin: string): Promise<Postgres> {
    const as = await user();
    const dir = await mkdtemp(join(tmpdir(), 'flotilla-postgres-'));
    if (as.uid !== undefined && as.gid !== undefined) await chown(dir, as.uid, as.gid);
    const args = ['-D', join(dir, 'data'), '-U', 'flotilla', '--auth=trust', '--no-sync', '--no-instructions'];
    await promisify(execFile)(join(bin, 'initdb'), args, { ...as, cwd: dir });
    const server = new Postgres(bin, dir, await freePort(), as);
    await server.start();
    return server;
  }

  async start(): Promise<void> {
    const args = [
      '-D',
      join(this.dir, 'data'),
      '-h',
      '127.0.0.1',
      '-p',
      String(this.port),
      '-k',
      this.dir,
      '-c',
      'max_connections=20',
    ];
    this.child = spawn(join(this.bin, 'postgres'), args, { ...this.as, cwd: this.dir, stdio: 'ignore' });
    const isReady = promisify(execFile);
    for (let attempt = 0; ; attempt++) {
      try {
        await isReady(join(this.bin, 'pg_isready'), ['-h', '127.0.0.1', '-p', String(this.port)]);
        return;
      } catch (error) {
        if (attempt > 300) throw error;
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
  }

  /** Every process of it, at once, in the middle of whatever it does. */
  async kill(): Promise<void> {
    const { child } = this;
    if (child?.pid === undefined) return;
    const sessions = await readFile(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8').catch(() => '');
    const exited = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    for (const pid of sessions.split(' ').filter(Boolean)) tryKill(Number(pid));
    await exited;
  }

  /** Stops all sessions where they are, and lets them go on later. */
  async pause(ms: number): Promise<void> {
    const { pid } = this.child ?? {};
    if (pid === undefined) return;
    const sessions = (await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8'))
      .split(' ')
      .filter(Boolean)
      .map(Number);
    for (const session of [pid, ...sessions]) tryKill(session, 'SIGSTOP');
    await new Promise((resolve) => setTimeout(resolve, ms));
    for (const session of [pid, ...sessions]) tryKill(session, 'SIGCONT');
  }
}

function tryKill(pid: number, signal: NodeJS.Signals = 'SIGKILL'): void {
  try {
    process.kill(pid, signal);
  } catch {
    // it ended by itself
  }
}

async function user(): Promise<{ uid?: number; gid?: number }> {
  if (process.getuid?.() !== 0) return {};
  const line = (await readFile('/etc/passwd', 'utf8')).split('\n').find((text) => /^(postgres|nobody):/.test(text));
  const [, , uid, gid] = line?.split(':') ?? [];
  return { uid: Number(uid), gid: Number(gid) };
}
