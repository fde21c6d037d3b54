import { generateKey, signSuccession } from '@flotilla/pack';
import { topicFor } from '@flotilla/protocol';
import mqtt from 'mqtt';
import { execFileSync } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type Agent, type AgentOptions, agentStatus, startAgent } from '../src/index.ts';
import { type Broker, mosquitto, startBroker, withoutMosquitto } from './broker.ts';
import { fakeEngine } from './fake-engine.ts';
import { makePack, noise, packKey, releaseOf, type TestPack } from './packs.ts';
import { TestController, until } from './test-controller.ts';

let root: string;
let broker: Broker;
let packA: TestPack;
let packB: TestPack;
const cleanUps: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  root = await mkdtemp(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'agent-'));
  packA = await makePack(root, { seed: 1 });
  packB = await makePack(root, { seed: 2 });
});
afterAll(() => rm(root, { recursive: true, force: true }));
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).toReversed()) await cleanUp();
});

async function scene(): Promise<{
  controller: TestController;
  start: (more?: Partial<AgentOptions>) => Promise<Agent>;
  dataDir: string;
}> {
  broker = await startBroker();
  cleanUps.push(broker.stop);
  const controller = await TestController.connect(broker.url);
  cleanUps.push(() => controller.close());
  controller.packs.push(packA, packB);
  const dataDir = await mkdtemp(join(root, 'data-'));
  const start = async (more: Partial<AgentOptions> = {}): Promise<Agent> => {
    const identity = controller.identity(broker.url);
    const agent = await startAgent({ dataDir, identity, measureMs: 50, ports: { engine: fakeEngine() }, ...more });
    cleanUps.push(() => agent.close());
    return agent;
  };
  return { controller, start, dataDir };
}

describe.skipIf(mosquitto === undefined)(`an agent on a real broker${withoutMosquitto}`, () => {
  test('says who it is, takes two releases, and tells the digest that is loaded', async () => {
    const { controller, start, dataDir } = await scene();
    const agent = await start();
    await until(() => controller.presences.length > 0);
    expect(controller.presences).toMatchObject([
      { online: true, birth: { board: 'raspberrypi-5', boardClass: 'x64' } },
    ]);
    await controller.want(releaseOf(packA, 1));
    await controller.reported({ state: 'committed', loadedDigest: packA.digest });
    await controller.want(releaseOf(packB, 2));
    await controller.reported({ state: 'committed', loadedDigest: packB.digest, sequence: 2 });
    const counters = controller.reports.map(({ counter }) => counter);
    expect(counters).toEqual(counters.toSorted((one, other) => one - other));
    expect(new Set(counters).size).toBe(counters.length);
    await until(async () => (await agentStatus(dataDir)).models[0]?.state === 'committed');
    expect(await agentStatus(dataDir)).toMatchObject({ running: true, online: true, device: 'pi-1' });
    await agent.close();
    await agent.done;
    expect(await agentStatus(dataDir)).toMatchObject({ running: false, online: false });
    await until(() => controller.presences.at(-1)?.online === false);
    expect(await readdir(join(dataDir, 'models', 'labels'))).toEqual(['a', 'b', 'state.1', 'state.2']);
  });

  test.each([
    ['golden vectors that fail', { golden: 'golden-mismatch' }, 'failed', 'golden-mismatch'],
    ['a model over its latency budget', { p50Us: '2000000' }, 'failed', 'latency-budget'],
    ['a model that does not load', { load: 'load' }, 'failed', 'load'],
    ['a model that goes wrong on trial', { 'golden-after-load': '1' }, 'rolled-back', 'golden-mismatch'],
  ])('%s: the old release goes on serving', async (_title, annotations, state, reason) => {
    const { controller, start } = await scene();
    await start();
    await controller.want(releaseOf(packA, 1));
    await controller.reported({ state: 'committed' });
    const bad = await makePack(root, { seed: 5, annotations: annotations as { [key: string]: string } });
    controller.packs.push(bad);
    await controller.want(releaseOf(bad, 2));
    await controller.reported({ state: state as never, reason: reason as never, loadedDigest: packA.digest });
    expect((await controller.call({ id: 'after', benchMs: 10 })).digest).toBe(packA.digest);
  });

  test('a model that can be rebuilt is not fetched; one that comes out otherwise is, and the reason told', async () => {
    const { controller, start } = await scene();
    const lines: string[] = [];
    await start({ log: (line) => lines.push(line) });
    await controller.want(releaseOf(packA, 1));
    await controller.reported({ state: 'committed' });
    const good = await makePack(root, { seed: 21, base: packA });
    const other = await makePack(root, { seed: 22, base: packA, model: noise(300_000, 22) });
    controller.packs.push(good, other);
    await controller.want(releaseOf(good, 2));
    await controller.reported({ state: 'committed', loadedDigest: good.digest });
    await controller.want(releaseOf(other, 3));
    await controller.reported({ state: 'committed', loadedDigest: other.digest });
    const fetched = (pack: TestPack) => controller.fetched.filter((piece) => piece.startsWith(pack.model));
    expect([fetched(good).length, fetched(other).length]).toEqual([0, 2]);
    const problem = `rebuilding gave ${good.model}, not ${other.model}`;
    expect(lines).toContain(`labels: not rebuilt, fetched whole: ${problem}`);
    expect(await controller.reported({ state: 'downloading', detail: `fetched whole: ${problem}` })).toBeDefined();
  });

  test('chunks that get lost are asked for again; a broker that goes away is waited for', async () => {
    const { controller, start } = await scene();
    const agent = await start();
    let asked = 0;
    controller.lose = () => ++asked === 3;
    await controller.want(releaseOf(packA, 1));
    await until(() => asked > 2);
    const { port } = broker;
    await broker.stop();
    await until(() => !agent.online);
    broker = await startBroker({ port });
    cleanUps.push(broker.stop);
    await until(() => agent.online);
    await controller.want(releaseOf(packA, 1));
    await controller.reported({ state: 'committed', loadedDigest: packA.digest });
    const sessions = controller.presences.map(({ session }) => session);
    expect(sessions).toEqual(sessions.toSorted((one, other) => one - other));
  });

  test('an agent that is stopped while it tests a release has not refused it', async () => {
    const { controller, start } = await scene();
    const agent = await start();
    const slow = await makePack(root, { seed: 9, annotations: { 'slow-golden': '1000' } });
    controller.packs.push(slow);
    await controller.want(releaseOf(slow, 1));
    await controller.reported({ state: 'testing' });
    await agent.close();
    expect(controller.reports.at(-1)).toMatchObject({ state: 'testing' });
    await start();
    await controller.reported({ state: 'committed', loadedDigest: slow.digest });
    expect(controller.reports.filter(({ state }) => state === 'failed')).toEqual([]);
  });

  test('#43 #44 a release of another key or for another device is refused in words', async () => {
    const { controller, start } = await scene();
    await start();
    await controller.want(releaseOf(packA, 4), generateKey());
    await controller.reported({ state: 'failed', reason: 'desired-signature', sequence: 4, loadedDigest: '' });
    await controller.want(releaseOf(packA, 5));
    await controller.reported({ state: 'committed', sequence: 5 });
    await controller.want(releaseOf(packB, 3));
    await controller.reported({ state: 'failed', reason: 'desired-replayed', loadedDigest: packA.digest });
  });

  test('keys that were rotated: a release and a pack of the new ones are taken, across a restart; the old one is refused', async () => {
    const { controller, start } = await scene();
    const agent = await start();
    const [next, nextPack] = [generateKey(), generateKey()];
    const rotated = await makePack(root, { seed: 10, key: nextPack });
    controller.packs.push(rotated);
    const successions = [signSuccession(controller.key, next.publicKey), signSuccession(packKey, nextPack.publicKey)];
    await controller.want(
      releaseOf(rotated, 1),
      next,
      successions.map(({ bytes }) => bytes),
    );
    await controller.reported({ state: 'committed', loadedDigest: rotated.digest });
    await agent.close();
    await start();
    await controller.want(releaseOf(packA, 2));
    await controller.reported({ state: 'failed', reason: 'desired-signature', sequence: 2 });
    await controller.want(releaseOf(packA, 2), next);
    await controller.reported({ state: 'committed', loadedDigest: packA.digest });
  });

  test('a pack of a key that the device does not trust is refused', async () => {
    const { controller, start } = await scene();
    await start();
    const foreign = await makePack(root, { seed: 6, key: generateKey() });
    controller.packs.push(foreign);
    await controller.want(releaseOf(foreign, 1));
    await controller.reported({ state: 'failed', reason: 'pack-signature' });
  });

  test('calls: an answer, telemetry, and errors that say what is wrong', async () => {
    const { controller, start } = await scene();
    await start();
    expect(await controller.call({ id: 'c0', prompt: 'x' })).toMatchObject({
      error: expect.stringMatching(/^agent\/no-model: /),
    });
    await controller.want(releaseOf(packA, 1));
    await controller.reported({ state: 'committed' });
    expect(await controller.call({ id: 'c1', prompt: 'x' })).toMatchObject({
      error: expect.stringMatching(/^agent\/not-text: /),
    });
    expect(await controller.call({ id: 'c2', benchMs: 20 })).toMatchObject({ error: '', digest: packA.digest });
    expect(controller.telemetry).toMatchObject([
      { name: 'labels', digest: packA.digest, throughputPerS: 1000, failures: 0 },
    ]);
    const text = await makePack(root, { seed: 7, annotations: { task: 'text' } });
    controller.packs.push(text);
    await controller.want(releaseOf(text, 2));
    await controller.reported({ state: 'committed', sequence: 2 });
    expect(await controller.call({ id: 'c3', prompt: 'on' })).toMatchObject({ text: 'ON', tokens: 3, error: '' });
    // A model that breaks on a request is loaded again.
    expect(await controller.call({ id: 'c4', prompt: 'crash' })).toMatchObject({ error: 'crashed: made up' });
    await until(() => controller.reports.at(-1)?.loadedDigest === text.digest);
    expect(await controller.call({ id: 'c5', prompt: 'on' })).toMatchObject({ text: 'ON' });
  });

  test.skipIf(process.platform !== 'linux' || process.getuid?.() !== 0)(
    '#50 a disk that fills up (a real tmpfs; skipped unless root): refused, nothing left behind, and better once there is room',
    async () => {
      const { controller, start } = await scene();
      const dataDir = await mkdtemp(join(root, 'small-'));
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1800k', 'tmpfs', dataDir]);
      cleanUps.push(async () => execFileSync('umount', ['-l', dataDir]));
      await start({ dataDir });
      await controller.want(releaseOf(packA, 1));
      await controller.reported({ state: 'committed' });
      // There is room when the download begins, and then there is not.
      controller.lose = ({ digest, offset }) => {
        if (packB.blobs.get(digest)?.length === 700_000 && offset > 0 && !existsSync(join(dataDir, 'other')))
          writeFileSync(join(dataDir, 'other'), new Uint8Array(700_000));
        return false;
      };
      await controller.want(releaseOf(packB, 2));
      await controller.reported({ state: 'failed', reason: 'storage-full', loadedDigest: packA.digest });
      await until(async () => !(await readdir(join(dataDir, 'models', 'labels'))).includes('next'));
      expect((await controller.call({ id: 'still', benchMs: 10 })).digest).toBe(packA.digest);
      controller.lose = undefined;
      await rm(join(dataDir, 'other'));
      await controller.want(releaseOf(packB, 3));
      await controller.reported({ state: 'committed', loadedDigest: packB.digest });
      // Three packs do not fit: the one before gives way.
      const third = await makePack(root, { seed: 8 });
      controller.packs.push(third);
      await controller.want(releaseOf(third, 4));
      await controller.reported({ state: 'committed', loadedDigest: third.digest });
    },
  );

  test('#47 nonsense on its topics harms nothing', async () => {
    const { controller, start } = await scene();
    const lines: string[] = [];
    await start({ log: (line) => lines.push(line) });
    const stranger = await mqtt.connectAsync(broker.url);
    const address = { fleet: 'test', device: 'pi-1' };
    const topics = [topicFor(address, 'desired', 'labels'), topicFor(address, 'chunk'), topicFor(address, 'call')];
    for (const topic of [...topics, topicFor(address, 'presence')])
      for (const payload of ['', 'x', Buffer.alloc(300_000, 7)])
        await stranger.publishAsync(topic, payload, { qos: 1 });
    await stranger.endAsync();
    await controller.want(releaseOf(packA, 1));
    await controller.reported({ state: 'committed' });
    expect(lines.filter((line) => line.startsWith('ignored a message')).length).toBeGreaterThan(4);
  });
});

describe.skipIf(mosquitto === undefined)(`refusals${withoutMosquitto}`, () => {
  test('a broker that refuses the credentials: one clear line, and nothing runs on', async () => {
    broker = await startBroker({ users: { 'pi-1': 'another-secret', controller: 'c' } });
    cleanUps.push(broker.stop);
    const controller = await TestController.connect(broker.url, { username: 'controller', password: 'c' });
    cleanUps.push(() => controller.close());
    const dataDir = await mkdtemp(join(root, 'data-'));
    const identity = controller.identity(broker.url);
    await expect(startAgent({ dataDir, identity, ports: { engine: fakeEngine() } })).rejects.toMatchObject({
      code: 'agent/broker-refused',
      message: expect.stringMatching(/^the broker at mqtt:\/\/127.0.0.1:\d+ refuses device "pi-1": [^\n]+$/),
    });
    expect(await readdir(dataDir)).not.toContain('agent.lock');
  });

  test('no broker at all: the agent serves and goes on trying', async () => {
    const { start } = await scene();
    await broker.stop();
    const agent = await start();
    expect(agent.online).toBe(false);
    broker = await startBroker({ port: broker.port });
    cleanUps.push(broker.stop);
    await until(() => agent.online);
  });

  test('#48 a second agent on the same data folder is refused', async () => {
    const { start } = await scene();
    await start();
    await expect(start()).rejects.toMatchObject({ code: 'agent/identity-in-use' });
  });

  test('#48 a second agent with the same identity elsewhere: exactly one goes on, the one that was first', async () => {
    const { controller, start } = await scene();
    const first = await start();
    await controller.want(releaseOf(packA, 1));
    await controller.reported({ state: 'committed' });
    const second = await start({ dataDir: await mkdtemp(join(root, 'data-')) }).catch((error: unknown) => error);
    const ended = second instanceof Error ? second : await (second as Agent).done.catch((error: unknown) => error);
    expect(ended).toMatchObject({ code: 'agent/identity-in-use', message: expect.stringContaining('pi-1') });
    await until(() => first.online);
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(first.online).toBe(true);
    expect((await controller.call({ id: 'still-there', benchMs: 10 })).digest).toBe(packA.digest);
    expect(controller.presences.at(-1)).toMatchObject({ online: true });
  });
});
