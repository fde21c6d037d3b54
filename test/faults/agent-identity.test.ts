import { chmod, cp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { generateKey } from '@flotilla/pack';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type AgentProcess, type Scene, spawnAgent, startScene, stopAgent } from './agent-scene.ts';

let scene: Scene;
beforeAll(async () => {
  scene = await startScene();
}, 180_000);
afterAll(() => scene.close());

async function started(agent: AgentProcess): Promise<AgentProcess> {
  for (let wait = 0; wait < 600 && !/^(started|error)/m.test(agent.output()); wait++)
    await new Promise((resolve) => setTimeout(resolve, 50));
  return agent;
}

test('#48 a second agent with a copy of the identity: one line, exit 5, and the first serves on', {
  timeout: 120_000,
}, async () => {
  const identity = await scene.device('twin');
  const first = await started(spawnAgent(identity, join(scene.root, 'data', 'twin')));
  const digest = await scene.publish('1.0.0');
  expect(await scene.ended((await scene.rollOut('1.0.0', { to: "device = 'twin'" })).id)).toMatchObject({
    phase: 'done',
  });
  const copy = join(scene.root, 'copy');
  await cp(identity, copy, { recursive: true });
  const second = spawnAgent(copy, join(scene.root, 'data', 'other'));
  expect(await second.ended).toBe(5);
  expect(second.output()).toMatch(
    /^error agent\/identity-in-use: another agent runs as device "twin", and was there first$/m,
  );
  const sameFolder = spawnAgent(identity, join(scene.root, 'data', 'twin'));
  expect(await sameFolder.ended).toBe(5);
  expect(sameFolder.output()).toMatch(/^error agent\/identity-in-use: another agent \(process \d+\) runs on /m);
  expect((await scene.client.call('twin', { name: 'labels', benchMs: 50 })).digest).toBe(digest);
  expect(await scene.client.device('twin')).toMatchObject({ online: true });
  await stopAgent(first);
});

test('a broker that refuses the credentials: one line, exit 5', async () => {
  const identity = await scene.device('stranger');
  const file = join(identity, 'identity.json');
  const good = JSON.parse(await readFile(file, 'utf8')) as { secret: string };
  await writeFile(file, JSON.stringify({ ...good, secret: 'x'.repeat(good.secret.length) }));
  const agent = spawnAgent(identity, join(scene.root, 'data', 'stranger'));
  expect(await agent.ended).toBe(5);
  expect(agent.output()).toMatch(/^error agent\/broker-refused: the broker at mqtt:[^\n]+ refuses device "stranger"/m);
});

test('a wrong controller key: the release is refused in words, nothing is fetched', async () => {
  const identity = await scene.device('misled');
  const file = join(identity, 'identity.json');
  const good = JSON.parse(await readFile(file, 'utf8')) as object;
  await writeFile(file, JSON.stringify({ ...good, controllerKey: generateKey().publicKey.pem }));
  const agent = await started(spawnAgent(identity, join(scene.root, 'data', 'misled')));
  await scene.publish('2.0.0');
  const rollout = await scene.ended((await scene.rollOut('2.0.0', { to: "device = 'misled'" })).id);
  expect(rollout).toMatchObject({ phase: 'stopped', devices: [{ failure: 'desired-signature' }] });
  expect(agent.output()).not.toContain('fetching');
  await stopAgent(agent);
});

test('a pack key that the device does not trust: refused before the switch', async () => {
  const identity = await scene.device('wary');
  const file = join(identity, 'identity.json');
  const good = JSON.parse(await readFile(file, 'utf8')) as object;
  await writeFile(file, JSON.stringify({ ...good, trustedPackKeys: [generateKey().publicKey.pem] }));
  const agent = await started(spawnAgent(identity, join(scene.root, 'data', 'wary')));
  await scene.publish('3.0.0');
  const rollout = await scene.ended((await scene.rollOut('3.0.0', { to: "device = 'wary'" })).id);
  expect(rollout).toMatchObject({ phase: 'stopped', devices: [{ failure: 'pack-signature' }] });
  await stopAgent(agent);
});

test('an identity file that others may read is refused', async () => {
  const identity = await scene.device('open');
  await chmod(join(identity, 'identity.json'), 0o644);
  const agent = spawnAgent(identity, join(scene.root, 'data', 'open'));
  expect(await agent.ended).toBe(5);
  expect(agent.output()).toMatch(/^error agent\/identity-mode: /m);
});
