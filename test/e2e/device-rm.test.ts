import { type Controller, ControllerClient, startController } from '@flotilla/controller';
import { writeKeyPair } from '@flotilla/pack';
import { execFile, spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { databaseTemplate } from '../../packages/controller/test/support/data-dir.ts';

const main = fileURLToPath(new URL('../../packages/cli/dist/main.js', import.meta.url));

let scratch: string;
let controller: Controller;
let client: ControllerClient;
let connection: readonly string[];

beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'device-rm-'));
  const { publicFile } = await writeKeyPair(join(scratch, 'keys'));
  controller = await startController({
    databaseTemplate,
    dataDir: join(scratch, 'controller'),
    mqtt: { listen: '127.0.0.1:0' },
    http: '127.0.0.1:0',
    trustedKeys: [publicFile],
    log: () => undefined,
  });
  const { httpUrl, adminTokenFile } = controller;
  connection = ['--controller', httpUrl, '--token', `@${adminTokenFile}`];
  client = new ControllerClient({ url: httpUrl, token: (await readFile(adminTokenFile, 'utf8')).trim() });
}, 60_000);

afterAll(async () => {
  await controller?.close();
  await rm(scratch, { recursive: true, force: true });
});

function flotilla(...args: readonly string[]): Promise<{ exitCode: number | null; stderr: string }> {
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [main, ...args], (_error, _stdout, stderr) =>
      resolve({ exitCode: child.exitCode, stderr }),
    );
  });
}

test('a device that is removed is cut off and refused; the name may be provisioned again', async () => {
  const places = ['--identity', join(scratch, 'identity'), '--data', join(scratch, 'agent')];
  expect(await client.provision({ device: 'other', board: 'host' })).toMatchObject({ device: 'other' });
  const provision = ['agent', 'provision', '--board', 'host', '--name', 'pi-1', ...connection];
  expect(await flotilla(...provision, '--identity', join(scratch, 'identity'))).toMatchObject({ exitCode: 0 });
  const agent = spawn(process.execPath, [main, 'agent', 'start', ...places]);
  let said = '';
  agent.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
  const ended = new Promise((resolve) => agent.once('exit', resolve));
  try {
    await expect.poll(async () => (await client.device('pi-1')).online, { timeout: 30_000 }).toBe(true);
    expect(await flotilla('device', 'rm', 'pi-1', ...connection)).toEqual({ exitCode: 0, stderr: '' });
    // One that was online once goes on trying, and its models go on serving; it is let in no more.
    await expect.poll(() => said, { timeout: 20_000 }).toMatch(/no link to .*(Bad username|Not authorized)/i);
  } finally {
    agent.kill();
    await ended;
  }
  expect(await flotilla('agent', 'start', ...places)).toEqual({
    exitCode: 5,
    stderr: expect.stringMatching(/error agent\/broker-refused: .*; provision the device again\n$/),
  });
  expect((await client.devices()).map(({ id }) => id)).toEqual(['other']);
  expect(await flotilla('device', 'rm', 'pi-1', ...connection)).toEqual({
    exitCode: 3,
    stderr: 'error controller/not-found: there is no device pi-1\n',
  });
  expect(await client.telemetry('pi-1')).toEqual([]);
  expect(await client.provision({ device: 'pi-1', board: 'host' })).toMatchObject({ device: 'pi-1' });
  expect(await client.device('pi-1')).toMatchObject({ online: false, models: [] });
}, 90_000);
