import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer, connect, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { provisionAgent } from '@flotilla/agent';
import { compile } from '@flotilla/compiler';
import { ControllerClient } from '@flotilla/controller';
import { createPack, generateKey, openPack, readAdapter, writeAdapter, writeKeyPair } from '@flotilla/pack';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ControllerProcess, freePort } from '../../packages/controller/test/support/controller-process.ts';
import { databaseTemplate, dataDir } from '../../packages/controller/test/support/data-dir.ts';
import { type AgentProcess, spawnAgent, stopAgent } from '../faults/agent-scene.ts';

// Controller and agent in processes of their own; between them a socket that counts what goes to the device.
const llama = 'test/fixtures/models/wordnet-llama-4m';
const lora = { dir: 'test/fixtures/models/adapters/intents-lora' };
const key = generateKey();
let root: string;
let controller: ControllerProcess;
let client: ControllerClient;
let agent: AgentProcess;
let wire: Wire;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'adapter-rollout-'));
  const { publicFile } = await writeKeyPair(join(root, 'keys'), key);
  const [port, http] = [await freePort(), `127.0.0.1:${await freePort()}`];
  const own = { dataDir: await dataDir(), databaseTemplate, trustedKey: publicFile };
  controller = new ControllerProcess({ ...own, mqtt: `127.0.0.1:${port}`, http });
  const url = await controller.ready;
  const token = (await readFile(join(own.dataDir, 'admin.token'), 'utf8')).trim();
  client = new ControllerClient({ url, token });
  wire = await openWire(port);
  const identityDir = join(root, 'identity');
  await provisionAgent({ controllerUrl: url, token, board: 'host', name: 'pi-1', identityDir });
  const file = join(identityDir, 'identity.json');
  const identity = JSON.parse(await readFile(file, 'utf8')) as { readonly [key: string]: unknown };
  await writeFile(file, JSON.stringify({ ...identity, brokerUrl: `mqtt://127.0.0.1:${wire.port}` }));
  agent = spawnAgent(identityDir, join(root, 'data'));
  const options = { loraMode: 'rebuild', latencySeconds: 0, floor: 0, boards: ['host'], key };
  const basePack = join(root, 'base.pack');
  await compile(llama, basePack, { ...options, weights: 'int4', method: 'rtn' });
  await compile(llama, join(root, 'rebuilt.pack'), { ...options, basePack, lora: [lora] });
  await putBeside(basePack, join(root, 'rebuilt.pack'), join(root, 'intents.pack'));
}, 300_000);
afterAll(async () => {
  await stopAgent(agent);
  await controller.kill();
  wire.server.close();
  await rm(root, { recursive: true, force: true });
});

/** Two bytes for each of the adapter's numbers. */
const FACTORS = 2 * 299_008;

test('a device that has the base fetches the factors, and hardly more; a call chooses the adapter', async () => {
  const whole = await rollOut('base.pack', '1.0.0');
  const update = await rollOut('intents.pack', '2.0.0');
  const pack = await openPack(join(root, 'intents.pack'));
  const [model, factors] = ['model', 'adapter'].map((role) => pack.config.files.find((file) => file.role === role));
  await pack.close();
  expect(whole).toBeGreaterThan(model?.bytes ?? Infinity);
  expect(update).toBeGreaterThan(factors?.bytes ?? Infinity);
  expect(update).toBeLessThan(1.1 * FACTORS);
  const ask = { name: 'commands', prompt: 'kindly switch off the space heater in the attic =>', maxTokens: 32 };
  expect((await client.call('pi-1', { ...ask, adapter: 'intents' })).text).toMatch(/"intent":"off","device":"heater"/);
  expect((await client.call('pi-1', ask)).text).not.toContain('"intent"');
  await expect(client.call('pi-1', { ...ask, adapter: 'other' })).rejects.toMatchObject({
    code: 'controller/device-error',
    message: expect.stringContaining('there are intents'),
  });
}, 120_000);

test('and makes a model that the adapter was merged into, of its base and the factors', async () => {
  const update = await rollOut('rebuilt.pack', '3.0.0');
  expect(update, agent.output()).toBeGreaterThan(FACTORS);
  expect(update, agent.output()).toBeLessThan(1.1 * FACTORS);
  const ask = { name: 'commands', prompt: 'kindly switch off the space heater in the attic =>', maxTokens: 32 };
  expect((await client.call('pi-1', ask)).text).toMatch(/"intent":"off","device":"heater"/);
}, 120_000);

/** What `--lora-mode branch` makes: the factors are the same. Under another name, so that neither update has the other's. */
async function putBeside(base: string, rebuilt: string, out: string): Promise<void> {
  const [pack, other] = [await openPack(base), await openPack(rebuilt)];
  const factors = readAdapter(await other.file('rebuild.safetensors'));
  const adapter = writeAdapter({ ...factors, name: 'intents' });
  const files = await Promise.all(
    pack.config.files.map(async ({ path, role }) => ({ path, role, source: await pack.file(path) })),
  );
  const beside = { path: 'adapters/intents.safetensors', role: 'adapter', source: adapter };
  await createPack(out, { ...pack.config, files: [...files, beside] }, { key });
  for (const one of [pack, other]) await one.close();
}

/** @returns bytes that went to the device */
async function rollOut(pack: string, version: string): Promise<number> {
  await client.publish(join(root, pack), 'commands', version);
  const before = wire.toDevice();
  const release = `commands@${version}`;
  const { id } = await client.createRollout({ release, canary: 0, healthWindowMs: 300, stateDeadlineMs: 60_000 });
  let view = await client.rollout(id);
  for await (const next of client.watch(id)) view = next;
  expect(view, agent.output()).toMatchObject({ phase: 'done', counts: { done: 1 } });
  return wire.toDevice() - before;
}

interface Wire {
  readonly server: Server;
  readonly port: number;
  toDevice(): number;
}

/** Passes every connection on to a port, and counts what comes back. */
async function openWire(target: number): Promise<Wire> {
  let bytes = 0;
  const server = createServer((device) => {
    const broker = connect(target, '127.0.0.1');
    broker.on('data', (data) => (bytes += data.length));
    device.pipe(broker).pipe(device);
    device.on('error', () => broker.destroy());
    broker.on('error', () => device.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { server, port: (server.address() as AddressInfo).port, toDevice: () => bytes };
}
