import { join } from 'node:path';
import { type Agent, agentStatus, startAgent } from '@flotilla/agent';
import { generateKey } from '@flotilla/pack';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Scene, startScene } from '../faults/agent-scene.ts';

let scene: Scene;
const agents: Agent[] = [];
const devices = ['pi-1', 'pi-2'];

beforeAll(async () => {
  scene = await startScene();
  for (const device of devices) {
    const identity = await scene.device(device);
    const dataDir = join(scene.root, 'data', device);
    agents.push(await startAgent({ identity, dataDir, measureMs: 200 }));
  }
}, 180_000);
afterAll(async () => {
  for (const agent of agents) await agent.close();
  await scene.close();
});

const loaded = async (): Promise<(string | null | undefined)[]> =>
  (await scene.client.devices()).map(({ models }) => models.find(({ name }) => name === 'labels')?.loadedDigest);

test('a release reaches a canary and then the rest, and runs there', async () => {
  const digest = await scene.publish('1.0.0');
  const { id } = await scene.rollOut('1.0.0', { canary: 1 });
  const rollout = await scene.ended(id);
  expect(rollout).toMatchObject({ phase: 'done', counts: { done: 2 } });
  expect(await loaded()).toEqual([digest, digest]);
  const { digest: answered } = await scene.client.call('pi-1', { name: 'labels', benchMs: 300 });
  expect(answered).toBe(digest);
  const [telemetry] = await scene.client.telemetry('pi-1');
  expect(telemetry).toMatchObject({ name: 'labels', digest });
  expect(await agentStatus(join(scene.root, 'data', 'pi-1'))).toMatchObject({ running: true, online: true });
});

test.each([
  ['golden vectors that do not hold', '2.0.0', { golden: 0.5 }, 'golden-mismatch'],
  ['a model over its latency budget', '2.1.0', { budgetUs: 0.001 }, 'latency-budget'],
])('%s: the canary keeps what it has, the other is never touched', async (_title, version, wrong, reason) => {
  const before = await loaded();
  await scene.publish(version, wrong);
  const { id } = await scene.rollOut(version, { canary: 1 });
  const rollout = await scene.ended(id);
  expect(rollout.phase).toBe('stopped');
  expect(rollout.devices.map(({ failure, status }) => [status, failure])).toEqual([
    ['failed', reason],
    ['untouched', null],
  ]);
  expect(await loaded()).toEqual(before);
});

test('the next good release goes through, and only what is new travels', async () => {
  const digest = await scene.publish('3.0.0', { extraBytes: 10 });
  const { id } = await scene.rollOut('3.0.0');
  expect(await scene.ended(id)).toMatchObject({ phase: 'done' });
  expect(await loaded()).toEqual([digest, digest]);
});

test('a controller takes no pack of a key that its devices do not trust', async () => {
  await expect(scene.publish('4.0.0', { key: generateKey() })).rejects.toThrow();
});
