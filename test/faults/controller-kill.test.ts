import { generateKey, type PrivateKey, writeKeyPair } from '@flotilla/pack';
import { ControllerClient } from '@flotilla/controller';
import { mkdtemp, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import {
  ControllerProcess,
  freePort,
  type ProcessOptions,
} from '../../packages/controller/test/support/controller-process.ts';
import { databaseTemplate, dataDir } from '../../packages/controller/test/support/data-dir.ts';
import { type Behaviour, FakeDevice } from '../../packages/controller/test/support/fake-device.ts';
import { makePack } from '../../packages/controller/test/support/packs.ts';

let options: ProcessOptions;
let controller: ControllerProcess;
let client: ControllerClient;
let key: PrivateKey;
let scratch: string;
const fakes: FakeDevice[] = [];

beforeEach(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'flotilla-kill-'));
  key = generateKey();
  const { publicFile } = await writeKeyPair(join(scratch, 'keys'), key);
  const [mqtt, http] = [`127.0.0.1:${await freePort()}`, `127.0.0.1:${await freePort()}`];
  options = { dataDir: await dataDir(), databaseTemplate, mqtt, http, trustedKey: publicFile };
  controller = new ControllerProcess(options);
  const url = await controller.ready;
  const token = (await readFile(join(options.dataDir, 'admin.token'), 'utf8')).trim();
  client = new ControllerClient({ url, token });
});

afterEach(async () => {
  await Promise.all(fakes.splice(0).map((fake) => fake.stop()));
  await controller.kill();
});

async function join5(behave: Behaviour, stepMs: number): Promise<readonly FakeDevice[]> {
  const devices: FakeDevice[] = [];
  for (let index = 0; index < 5; index++) {
    const identity = await client.provision({ board: 'fake', device: `d${index}` });
    devices.push(new FakeDevice({ identity, behave, stepMs, downloads: true }));
  }
  fakes.push(...devices);
  await Promise.all(devices.map((device) => device.connected()));
  await expect
    .poll(async () => (await client.devices()).filter(({ online }) => online).length, { timeout: 30_000 })
    .toBe(5);
  return devices;
}

/** Kills the controller after each of these times since it was ready, while `id` runs. @returns how often it was under way */
async function killDuring(id: string, afterMs: readonly number[]): Promise<number> {
  let underWay = 0;
  for (const ms of afterMs) {
    await new Promise((resolve) => setTimeout(resolve, ms));
    const { phase } = await client.rollout(id);
    if (phase !== 'canary' && phase !== 'rest') break;
    underWay++;
    await controller.kill();
    controller = new ControllerProcess(options);
    await controller.ready;
  }
  return underWay;
}

async function phaseAtEnd(id: string): Promise<string> {
  let last = '';
  for await (const { phase } of client.watch(id)) last = phase;
  return last;
}

test('kill -9 of the controller at many moments of a rollout: it takes it up, paused or not, and nobody is told twice', async () => {
  const { path, digest } = await makePack(scratch, 1, key, 300_000);
  await client.publish(path, 'labels', '1.0.0');
  const devices = await join5(() => 'commit', 150);
  const rollout = await client.createRollout({ release: 'labels@1.0.0', canary: 1 });
  const { pausedAtMs } = await client.pause(rollout.id);
  await killDuring(rollout.id, [0]);
  expect(await client.rollout(rollout.id)).toMatchObject({ phase: 'canary', pausedAtMs });
  await client.resume(rollout.id);
  expect(await killDuring(rollout.id, [300, 120])).toBeGreaterThanOrEqual(1);
  expect(await phaseAtEnd(rollout.id)).toBe('done');
  for (const device of devices) {
    expect(device.loaded).toBe(digest);
    expect(device.desired).toMatchObject([{ sequence: 1, digest }]); // again and again the same one, which the device knows
  }
  const canary = devices.find(({ id }) => id === rollout.devices[0]?.device);
  const others = devices.filter((device) => device !== canary).map(({ arrivals }) => arrivals[0] ?? 0);
  expect(Math.min(...others)).toBeGreaterThan((canary?.arrivals[0] ?? 0) + 8 * 150);
}, 240_000);

test('kill -9 right after the canary refused: the others stay untouched, the canary is called back once', async () => {
  const good = await makePack(scratch, 1, key);
  const bad = await makePack(scratch, 2, key);
  await client.publish(good.path, 'labels', '1.0.0');
  await client.publish(bad.path, 'labels', '2.0.0');
  const devices = await join5(({ digest }) => (digest === bad.digest ? 'refuse' : 'commit'), 1);
  expect(await phaseAtEnd((await client.createRollout({ release: 'labels@1.0.0', canary: 5 })).id)).toBe('done');
  const rollout = await client.createRollout({ release: 'labels@2.0.0' });
  const canary = devices.find(({ id }) => id === rollout.devices[0]?.device);
  await killDuring(rollout.id, [5]);
  expect(await phaseAtEnd(rollout.id)).toBe('stopped');
  await expect
    .poll(() => canary?.desired.map(({ digest }) => digest), { timeout: 30_000 })
    .toEqual([good.digest, bad.digest, good.digest]);
  for (const device of devices) {
    expect(device.loaded).toBe(good.digest);
    if (device !== canary) expect(device.desired).toHaveLength(1);
  }
}, 240_000);
