import { type Agent, agentStatus, provisionAgent, startAgent } from '@flotilla/agent';
import { type Controller, ControllerClient, type RolloutView, startController } from '@flotilla/controller';
import { createPack, generateKey, writeKeyPair } from '@flotilla/pack';
import { mkdtemp, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { fakeEngine } from '../../packages/agent/test/fake-engine.ts';
import { noise } from '../../packages/agent/test/packs.ts';
import { freePort } from '../../packages/controller/test/support/controller-process.ts';
import { databaseTemplate, dataDir } from '../../packages/controller/test/support/data-dir.ts';

// Real agents and a real controller on the real broker; only what a model computes is made up.
let root: string;
let controller: Controller;
let client: ControllerClient;
let start: () => Promise<Controller>;
let token: string;
const agents: Agent[] = [];
const key = generateKey();
const devices = ['pi-1', 'pi-2', 'pi-3'];
let digests: { readonly [version: string]: string } = {};

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'flotilla-e2e-'));
  const { publicFile } = await writeKeyPair(join(root, 'keys'), key);
  const options = {
    dataDir: await dataDir(),
    databaseTemplate,
    mqtt: { listen: `127.0.0.1:${await freePort()}` },
    http: `127.0.0.1:${await freePort()}`,
    trustedKeys: [publicFile],
  };
  start = () => startController(options);
  controller = await start();
  token = (await readFile(controller.adminTokenFile, 'utf8')).trim();
  client = new ControllerClient({ url: controller.httpUrl, token });
  for (const name of devices) {
    const identityDir = join(root, name, 'identity');
    await provisionAgent({ controllerUrl: controller.httpUrl, token, board: 'raspberrypi-5', name, identityDir });
    agents.push(await startOne(name));
  }
  await publish('1.0.0', {});
  await publish('2.0.0', { golden: 'golden-mismatch' });
  await publish('3.0.0', { p50Us: '2000000' });
  await publish('4.0.0', { 'golden-after-load': '1' });
  await publish('5.0.0', {});
}, 120_000);

afterAll(async () => {
  for (const agent of agents) await agent.close();
  await controller?.close();
}, 60_000);

const startOne = (name: string): Promise<Agent> =>
  startAgent({
    dataDir: join(root, name, 'data'),
    identity: join(root, name, 'identity'),
    measureMs: 50,
    ports: { engine: fakeEngine() },
  });

async function publish(version: string, annotations: { readonly [key: string]: string }): Promise<void> {
  const path = join(root, `${version}.pack`);
  await createPack(
    path,
    {
      name: 'labels',
      task: 'tensor',
      files: [
        { path: 'model.onnx', role: 'model', source: noise(700_000, Number.parseInt(version, 10)) },
        { path: 'golden.safetensors', role: 'golden', source: noise(1000, 99) },
      ],
      weights: 'int8',
      parameters: 1000,
      sourceBytes: 4000,
      golden: { path: 'golden.safetensors', tolerance: { x64: { atol: 0.1, rtol: 0.1 } } },
      latencyBudgetUs: { '*': 1_000_000 },
      annotations,
    },
    { key },
  );
  digests = { ...digests, [version]: (await client.publish(path, 'labels', version)).digest };
}

async function rollOut(version: string): Promise<RolloutView> {
  await expect
    .poll(async () => (await client.devices()).filter(({ online }) => online).length, { timeout: 20_000 })
    .toBe(3);
  const { id } = await client.createRollout({
    release: `labels@${version}`,
    healthWindowMs: 300,
    stateDeadlineMs: 60_000,
  });
  let last: RolloutView | undefined;
  for await (const view of client.watch(id)) last = view;
  if (last === undefined) throw new Error('no view');
  return last;
}

/** What every device says that it serves, once all agree. */
async function everybodyServes(version: string): Promise<void> {
  const shown = async () => (await client.devices()).map(({ models }) => [models[0]?.state, models[0]?.loadedDigest]);
  await expect.poll(shown, { timeout: 20_000 }).toEqual(devices.map(() => ['committed', digests[version]]));
}

test('real agents take a release; bad ones stop at the canary, which is back on what worked', async () => {
  expect(await rollOut('1.0.0')).toMatchObject({ phase: 'done', counts: { done: 3 } });
  await everybodyServes('1.0.0');
  for (const [version, why, reason] of [
    ['2.0.0', 'refused', /refused the release: the model does not give the expected outputs/],
    ['3.0.0', 'refused', /refused the release: the model is slower/],
    ['4.0.0', 'rolled-back', /went back to the release that worked/],
  ] as const) {
    const stopped = await rollOut(version);
    expect(stopped).toMatchObject({ phase: 'stopped', counts: { failed: 1, untouched: 2 } });
    expect(stopped.devices[0]?.why).toBe(why);
    expect(stopped.reason).toMatch(reason);
    await everybodyServes('1.0.0');
  }
}, 120_000);

test('the controller goes away and comes back: agents find it again, and the next release goes through', async () => {
  await controller.close();
  controller = await start();
  expect(await rollOut('5.0.0')).toMatchObject({ phase: 'done', counts: { done: 3 } });
  await everybodyServes('5.0.0');
}, 120_000);

test('#48 a second agent with the identity of a running one stops by itself; the first one serves on', async () => {
  const second = await startAgent({
    dataDir: join(root, 'pi-1', 'copy'),
    identity: join(root, 'pi-1', 'identity'),
    ports: { engine: fakeEngine() },
  });
  await expect(second.done).rejects.toMatchObject({ code: 'agent/identity-in-use' });
  // Until the first one has its connection again, a call is lost.
  const ask = () => client.call('pi-1', { name: 'labels', benchMs: 10, timeoutMs: 1000 }).catch(String);
  await expect.poll(ask, { timeout: 30_000 }).toMatchObject({ digest: digests['5.0.0'] });
  expect(await agentStatus(join(root, 'pi-1', 'data'))).toMatchObject({ running: true });
}, 60_000);
