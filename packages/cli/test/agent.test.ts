import { execFile } from 'node:child_process';
import { createServer } from 'node:http';
import { mkdtemp, rm } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readIdentity } from '@flotilla/agent';
import { generateKey } from '@flotilla/pack';
import { expect, test } from 'vitest';

const main = fileURLToPath(new URL('../dist/main.js', import.meta.url));

test('agent start --controller gets an identity where there is none, once', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'cli-agent-'));
  const { pem } = generateKey().publicKey;
  // An address that no agent takes: it ends after it has read its identity.
  const identity = {
    device: 'pi-1',
    fleet: 'main',
    board: 'raspberrypi-5',
    brokerUrl: 'http://127.0.0.1',
    secret: 's',
  };
  const asked: unknown[] = [];
  const server = createServer((request, response) => {
    asked.push([request.method, request.url, request.headers.authorization]);
    response.writeHead(201).end(JSON.stringify({ ...identity, controllerKey: pem, trustedPackKeys: [pem] }));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const controller = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const places = ['--identity', join(dir, 'identity'), '--data', join(dir, 'data')];
  const start = (...more: readonly string[]): Promise<{ readonly exitCode: number | null; readonly stderr: string }> =>
    new Promise((resolve) => {
      const args = [main, 'agent', 'start', '--controller', controller, ...places, ...more];
      const child = execFile(process.execPath, args, (_error, _stdout, stderr) =>
        resolve({ exitCode: child.exitCode, stderr }),
      );
    });
  try {
    expect(await start('--token', 't')).toMatchObject({ exitCode: 2, stderr: expect.stringContaining('--board') });
    const refused = {
      exitCode: 3,
      stderr:
        'error agent/identity: http://127.0.0.1 is no MQTT address; write mqtt://host:1883 or mqtts://host:8883\n',
    };
    expect(await start('--token', 't', '--board', 'raspberrypi-5')).toEqual(refused);
    expect(await readIdentity(join(dir, 'identity'))).toMatchObject(identity);
    expect(await start()).toEqual(refused); // with what it has
    expect(asked).toEqual([['POST', '/v1/devices', 'Bearer t']]);
    expect(await start('--board', 'rasberrypi-5')).toMatchObject({
      exitCode: 3,
      stderr: expect.stringMatching(/^error boards\/unknown: .*\n$/),
    });
  } finally {
    server.close();
    await rm(dir, { recursive: true, force: true });
  }
});
