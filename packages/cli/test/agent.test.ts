import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
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

test('an agent that fails after its first line says so on stderr and by its exit code: stdout keeps one object', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'cli-agent-'));
  const { pem } = generateKey().publicKey;
  let refuses = false;
  // A broker that is away until the agent has given up waiting for it, and then knows the device no more.
  const broker = createTcpServer((socket) => {
    socket.on('error', () => undefined);
    if (refuses)
      socket.once('data', () => socket.end(Uint8Array.of(0x20, 2, 0, 4))); // CONNACK, §3.2.2.3
    else socket.destroy();
  });
  await new Promise<void>((resolve) => broker.listen(0, '127.0.0.1', resolve));
  const brokerUrl = `mqtt://127.0.0.1:${(broker.address() as AddressInfo).port}`;
  const identity = { device: 'pi-1', fleet: 'main', board: 'host', brokerUrl, secret: 's' };
  try {
    await writeFile(
      join(dir, 'identity.json'),
      JSON.stringify({ ...identity, controllerKey: pem, trustedPackKeys: [pem] }),
      { mode: 0o600 },
    );
    const args = [main, 'agent', 'start', '--identity', dir, '--data', join(dir, 'data'), '--json'];
    const outcome = await new Promise<{ exitCode: number | null; stdout: string; stderr: string }>((resolve) => {
      const child = execFile(process.execPath, args, (_error, stdout, stderr) =>
        resolve({ exitCode: child.exitCode, stdout, stderr }),
      );
      child.stdout?.once('data', () => {
        refuses = true;
      });
    });
    expect(JSON.parse(outcome.stdout)).toMatchObject({ device: 'pi-1', online: false });
    expect(outcome).toMatchObject({ exitCode: 5, stderr: expect.stringMatching(/^error agent\/broker-refused: .*$/m) });
  } finally {
    broker.close();
    await rm(dir, { recursive: true, force: true });
  }
}, 30_000);
