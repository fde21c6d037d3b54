import { spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export const mosquitto = ['/usr/sbin/mosquitto', '/usr/bin/mosquitto', '/opt/homebrew/sbin/mosquitto'].find(existsSync);
export const withoutMosquitto = mosquitto === undefined ? ' (skipped: Mosquitto is not installed)' : '';

export interface Broker {
  readonly url: string;
  readonly port: number;
  readonly stop: () => Promise<void>;
}

/** A broker of its own on a free port. @param users by name, with their passwords; none: everyone may come */
export async function startBroker(
  options: { users?: { readonly [name: string]: string }; port?: number } = {},
): Promise<Broker> {
  const port = options.port ?? (await freePort());
  const dir = await mkdtemp(join(tmpdir(), 'broker-'));
  const lines = [
    `listener ${port} 127.0.0.1`,
    'max_inflight_messages 20',
    `allow_anonymous ${options.users === undefined}`,
  ];
  if (options.users !== undefined) {
    const passwords = join(dir, 'passwords');
    await writeFile(
      passwords,
      Object.entries(options.users)
        .map((user) => user.join(':'))
        .join('\n'),
    );
    spawnSync('mosquitto_passwd', ['-U', passwords]);
    lines.push(`password_file ${passwords}`);
  }
  if (process.getuid?.() === 0) lines.push('user root');
  await writeFile(join(dir, 'conf'), `${lines.join('\n')}\n`);
  const child = spawn(mosquitto ?? '', ['-c', join(dir, 'conf')], { stdio: 'ignore' });
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  await untilOpen(port);
  return {
    url: `mqtt://127.0.0.1:${port}`,
    port,
    async stop() {
      child.kill('SIGKILL');
      await ended;
      await rm(dir, { recursive: true, force: true });
    },
  };
}

export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });
}

async function untilOpen(port: number): Promise<void> {
  for (let attempt = 0; attempt < 200; attempt++) {
    const open = await new Promise<boolean>((resolve) => {
      const socket = connect(port, '127.0.0.1', () => resolve(true));
      socket.once('error', () => resolve(false));
      socket.once('connect', () => socket.destroy());
    });
    if (open) return;
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  throw new Error('the broker does not start');
}
