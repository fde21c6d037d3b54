import { type Controller, ControllerClient, type ControllerOptions, startController } from '@flotilla/controller';
import { generateKey, type PrivateKey, writeKeyPair } from '@flotilla/pack';
import { execFile, spawn } from 'node:child_process';
import { mkdtemp, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { FakeDevice } from '../../packages/controller/test/support/fake-device.ts';
import { makePack } from '../../packages/controller/test/support/packs.ts';
import { findPostgres, Postgres } from '../../packages/controller/test/support/postgres.ts';

const bin = await findPostgres();
const reason = bin === undefined ? ' (skipped: no PostgreSQL in /usr/lib/postgresql)' : '';

describe.skipIf(bin === undefined)(`#49 a controller on PostgreSQL${reason}`, () => {
  let postgres: Postgres;
  let controller: Controller;
  let client: ControllerClient;
  let key: PrivateKey;
  let scratch: string;
  let options: Omit<ControllerOptions, 'dataDir'>;
  let runs = 0;
  const devices: FakeDevice[] = [];

  beforeAll(async () => {
    postgres = await Postgres.create(bin ?? '');
    scratch = await mkdtemp(join(tmpdir(), 'flotilla-on-postgres-'));
    key = generateKey();
    const { publicFile } = await writeKeyPair(join(scratch, 'keys'), key);
    options = {
      database: postgres.url,
      mqtt: { listen: '127.0.0.1:0' },
      http: '127.0.0.1:0',
      trustedKeys: [publicFile],
      log: () => undefined,
    };
    controller = await startController({ ...options, dataDir: join(scratch, 'data') });
    client = new ControllerClient({
      url: controller.httpUrl,
      token: (await readFile(controller.adminTokenFile, 'utf8')).trim(),
    });
    for (const device of ['d0', 'd1', 'd2']) {
      const identity = await client.provision({ board: 'fake', device });
      devices.push(await new FakeDevice({ identity, stepMs: 60, downloads: true }).connected());
    }
  }, 120_000);

  afterEach(() => {
    for (const device of devices) device.desired.length = 0;
  });

  afterAll(async () => {
    await Promise.all(devices.map((device) => device.stop()));
    await controller?.close();
    await postgres?.kill();
  }, 60_000);

  /** One rollout, and what befalls the database while it runs. */
  async function rollOut(fault: () => Promise<void>): Promise<void> {
    const { path, digest } = await makePack(scratch, ++runs, key);
    await client.publish(path, 'labels', `${runs}.0.0`);
    const { id } = await client.createRollout({ release: `labels@${runs}.0.0` });
    await new Promise((resolve) => setTimeout(resolve, 100));
    await fault();
    let last = '';
    for await (const { phase } of client.watch(id)) last = phase;
    expect(last).toBe('done');
    for (const device of devices) expect(device.desired).toMatchObject([{ sequence: runs, digest }]);
  }

  test('nothing befalls it', () => rollOut(async () => undefined), 60_000);

  test('of those who make the same device at once, one does', async () => {
    const asked = Array.from({ length: 8 }, () => client.provision({ board: 'fake', device: 'at-once' }));
    const ends = await Promise.allSettled(asked);
    const refused = ends.flatMap((end) => (end.status === 'rejected' ? [end.reason as unknown] : []));
    expect(refused).toHaveLength(7);
    expect(refused[0]).toMatchObject({ code: 'controller/conflict' });
    await client.removeDevice('at-once'); // rollouts would wait for it
  });

  test('it is killed in the middle and comes back: no lost decision, no step twice', async () => {
    await rollOut(async () => {
      await postgres.kill();
      await expect(client.devices()).rejects.toMatchObject({ code: 'controller/database' });
      await postgres.start();
    });
  }, 120_000);

  test('it stands still for three seconds', () => rollOut(() => postgres.pause(3000)), 60_000);

  const psql = (sql: string): Promise<{ readonly stdout: string }> =>
    promisify(execFile)(join(bin ?? '', 'psql'), [postgres.url, '-tAc', sql]);
  const lockOf = (what: string): string => `from pg_locks where locktype = 'advisory' and ${what}`;

  test('a second controller on the database is refused; the first goes on', async () => {
    await expect(startController({ ...options, dataDir: join(scratch, 'other') })).rejects.toMatchObject({
      code: 'controller/locked',
      message: expect.stringMatching(/another controller works on 127\.0\.0\.1:\d+\/postgres/),
    });
    expect(await client.devices()).toHaveLength(3);
    await psql(`select pg_terminate_backend(pid) ${lockOf('granted')}`);
    await expect.poll(async () => (await psql(`select count(*) ${lockOf('granted')}`)).stdout.trim()).toBe('1');
    expect(await client.devices()).toHaveLength(3);
  }, 60_000);

  test('a controller whose lock another one took while its connection was lost stops, and says so', async () => {
    // It stands in the queue for the lock before the connection breaks.
    const rival = spawn(join(bin ?? '', 'psql'), [
      postgres.url,
      '-c',
      'select pg_advisory_lock(1718382452, 1), pg_sleep(60)',
    ]);
    try {
      await expect.poll(async () => (await psql(`select count(*) ${lockOf('not granted')}`)).stdout.trim()).toBe('1');
      await psql(`select pg_terminate_backend(pid) ${lockOf('granted')}`);
      await expect(controller.done).rejects.toMatchObject({ code: 'controller/locked' });
      await expect(client.devices()).rejects.toMatchObject({ code: 'controller/unreachable' });
    } finally {
      rival.kill();
    }
  }, 60_000);
});
