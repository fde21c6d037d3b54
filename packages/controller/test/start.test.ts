import { mkdir, mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  generateKey,
  parsePublicKey,
  parseSuccession,
  rotateKey,
  successorsOf,
  verify,
  writeKeyPair,
} from '@flotilla/pack';
import { Desired, topicFor, verifyDesired } from '@flotilla/protocol';
import mqtt from 'mqtt';
import { afterEach, describe, expect, test } from 'vitest';
import { type Controller, ControllerClient, type ControllerOptions, startController } from '../src/index.ts';
import { databaseTemplate, dataDir } from './support/data-dir.ts';
import { makePack } from './support/packs.ts';

const open: (Controller | Server)[] = [];

afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
});

async function start(options: ControllerOptions): Promise<Controller> {
  const controller = await startController({
    databaseTemplate,
    mqtt: { listen: '127.0.0.1:0' },
    http: '127.0.0.1:0',
    ...options,
  });
  open.push(controller);
  return controller;
}

async function occupiedPort(): Promise<string> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  open.push(server);
  return `127.0.0.1:${(server.address() as { port: number }).port}`;
}

describe('surroundings that do not allow it', () => {
  test('a port taken, either of them: named, and nothing is left behind', async () => {
    const dir = await dataDir();
    const taken = await occupiedPort();
    const expected = { code: 'controller/port-in-use', where: taken };
    await expect(start({ dataDir: dir, mqtt: { listen: taken } })).rejects.toMatchObject(expected);
    await expect(start({ dataDir: dir, http: taken })).rejects.toMatchObject(expected);
    await start({ dataDir: dir });
  });

  test('an address that is not this machine', async () => {
    const refused = start({ dataDir: await dataDir(), http: '203.0.113.7:0' });
    await expect(refused).rejects.toMatchObject({ code: 'controller/listen' });
  });

  test('a second controller on the same folder', async () => {
    const dir = await dataDir();
    const first = await start({ dataDir: dir });
    await expect(start({ dataDir: dir })).rejects.toMatchObject({ code: 'controller/locked', where: dir });
    expect((await fetch(`${first.httpUrl}/healthz`)).status).toBe(200);
  });

  test('a signing key that is damaged is an error, never a new key', async () => {
    const dir = await dataDir();
    await (await start({ dataDir: dir })).close();
    await writeFile(join(dir, 'keys/flotilla.key'), 'nonsense');
    await expect(start({ dataDir: dir })).rejects.toMatchObject({ code: 'controller/key' });
    expect(await readFile(join(dir, 'keys/flotilla.key'), 'utf8')).toBe('nonsense');
  });

  test('a trusted key that is none', async () => {
    const dir = await dataDir();
    await mkdir(join(dir, 'trusted'));
    await writeFile(join(dir, 'trusted/x.pub'), 'nonsense');
    await expect(start({ dataDir: dir })).rejects.toMatchObject({
      code: 'controller/key',
      where: join(dir, 'trusted/x.pub'),
    });
  });

  test('a data folder that is a file', async () => {
    const file = join(await mkdtemp(join(tmpdir(), 'flotilla-file-')), 'file');
    await writeFile(file, '');
    await expect(start({ dataDir: file })).rejects.toMatchObject({ code: 'controller/data-dir' });
  });

  test('a broker that is not there, and a database that is not there', async () => {
    const dir = await dataDir();
    const broker = start({ dataDir: dir, mqtt: { url: 'mqtt://user:secret@127.0.0.1:9' } });
    await expect(broker).rejects.toMatchObject({ code: 'controller/broker', where: 'mqtt://127.0.0.1:9' });
    const database = start({ dataDir: dir, database: 'postgres://user:secret@127.0.0.1:9/x' });
    await expect(database).rejects.toMatchObject({
      code: 'controller/database',
      message: expect.not.stringContaining('secret'),
    });
    await expect(start({ dataDir: dir, mqtt: { url: 'http://127.0.0.1:9' } })).rejects.toMatchObject({
      code: 'controller/broker',
      hint: 'write mqtt://host:1883 or mqtts://host:8883',
    });
    await expect(start({ dataDir: dir, database: 'mysql://127.0.0.1:9/x' })).rejects.toMatchObject({
      code: 'controller/database',
      message: expect.stringContaining('not postgres://'),
    });
  });

  test.each(['x', '1:2:3', '127.0.0.1:70000', ''])('%j is no address', async (http) => {
    await expect(start({ dataDir: await mkdtemp(join(tmpdir(), 'flotilla-address-')), http })).rejects.toMatchObject({
      code: 'controller/request',
    });
  });
});

test('without a trusted pack key it says so, instead of provisioning devices that refuse everything', async () => {
  const controller = await start({ dataDir: await dataDir() });
  const token = (await readFile(controller.adminTokenFile, 'utf8')).trim();
  const client = new ControllerClient({ url: controller.httpUrl, token });
  await expect(client.provision({ board: 'x' })).rejects.toMatchObject({ code: 'controller/no-trusted-keys' });
});

test('devices, tokens and the key are the same after a restart', async () => {
  const dir = await dataDir();
  await mkdir(join(dir, 'trusted'));
  const keys = await writeKeyPair(await mkdtemp(join(tmpdir(), 'flotilla-keys-')), generateKey());
  await writeFile(join(dir, 'trusted/ours.pub'), await readFile(keys.publicFile));
  const first = await start({ dataDir: dir });
  const token = (await readFile(first.adminTokenFile, 'utf8')).trim();
  const before = await new ControllerClient({ url: first.httpUrl, token }).provision({ board: 'x', device: 'one' });
  await first.close();
  const second = await start({ dataDir: dir });
  const client = new ControllerClient({ url: second.httpUrl, token });
  expect(await client.devices()).toMatchObject([{ id: 'one', board: 'x' }]);
  const after = await client.provision({ board: 'x', device: 'two' });
  expect(after.controllerKey).toBe(before.controllerKey);
  expect(after.secret).not.toBe(before.secret);
});

test('after rotations everything desired is signed with the new key, and carries the old ones’ word on it', async () => {
  const [dir, scratch] = [await dataDir(), await mkdtemp(join(tmpdir(), 'flotilla-rotate-'))];
  const trusted = join(dir, 'trusted');
  const packKey = generateKey();
  await writeKeyPair(trusted, packKey);
  const first = await start({ dataDir: dir });
  const token = (await readFile(first.adminTokenFile, 'utf8')).trim();
  const client = new ControllerClient({ url: first.httpUrl, token });
  const identity = await client.provision({ board: 'x', device: 'one' });
  await client.publish((await makePack(scratch, 1, packKey)).path, 'labels', '1.0.0');
  await client.createRollout({ release: 'labels@1.0.0' });
  await first.close();
  await rotateKey(join(dir, 'keys'));
  const last = await rotateKey(join(dir, 'keys'));
  await rotateKey(trusted);
  const second = await start({ dataDir: dir });
  const device = await mqtt.connectAsync(second.mqttUrl, {
    clientId: 'one',
    username: 'one',
    password: identity.secret,
  });
  const arrived = new Promise<Uint8Array>((resolve) => device.on('message', (_, payload) => resolve(payload)));
  await device.subscribeAsync(topicFor({ fleet: 'main', device: 'one' }, 'desired', 'labels'));
  const desired = Desired.decode(await arrived);
  await device.endAsync(true);
  expect(desired.keyId).toBe(last.keyId);
  const statements = desired.successions.map((bytes) => parseSuccession(bytes));
  const known = parsePublicKey(identity.controllerKey);
  expect(successorsOf(known, statements).map(({ keyId }) => keyId)).toContain(last.keyId);
  expect(successorsOf(packKey.publicKey, statements)).toHaveLength(1);
  const key = successorsOf(known, statements).at(-1) ?? known;
  const check = { keyId: last.keyId, verify: (bytes: Uint8Array, by: Uint8Array) => verify(key, bytes, by) };
  const release = verifyDesired(Desired.encode(desired), { device: 'one', name: 'labels', ...check });
  expect(release).toMatchObject({ sequence: 1, version: '1.0.0' });
});
