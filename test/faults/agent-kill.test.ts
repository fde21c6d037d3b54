import { join } from 'node:path';
import { agentStatus } from '@flotilla/agent';
import type { State } from '@flotilla/protocol';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Scene, spawnAgent, startScene, stopAgent } from './agent-scene.ts';

let scene: Scene;
beforeAll(async () => {
  scene = await startScene();
}, 180_000);
afterAll(() => scene.close());

/** Where the agent dies by SIGKILL: before it reports a state, or before it stores its Nth piece. */
const points: (State | number)[] = [
  'fetching',
  1,
  3,
  'verifying',
  'installing',
  'testing',
  'measuring',
  'switching',
  'trial',
  'committed',
];

test('kill -9 at every state of an update: each time the agent comes up, serves, and goes on', {
  timeout: 180_000,
}, async () => {
  const identity = await scene.device('victim');
  const dataDir = join(scene.root, 'data', 'victim');
  const first = await scene.publish('1.0.0');
  let agent = spawnAgent(identity, dataDir);
  expect(await scene.ended((await scene.rollOut('1.0.0')).id)).toMatchObject({ phase: 'done' });
  await stopAgent(agent);

  const second = await scene.publish('2.0.0');
  const { id } = await scene.rollOut('2.0.0');
  for (const killAt of points) {
    agent = spawnAgent(identity, dataDir, { killAt });
    expect(await agent.ended, `${killAt}: ${agent.output()}`).toBe('SIGKILL');
    const { running, models } = await agentStatus(dataDir);
    expect(running).toBe(false);
    // Killed before its first report it has nothing to say yet.
    expect([first, second, '']).toContain(models[0]?.loadedDigest ?? '');
  }
  agent = spawnAgent(identity, dataDir);
  expect(await scene.ended(id)).toMatchObject({ phase: 'done', counts: { done: 1 } });
  const { digest } = await scene.client.call('victim', { name: 'labels', benchMs: 50 });
  expect(digest).toBe(second);
  await stopAgent(agent);
  expect(await agent.ended).toBe(0);
});
