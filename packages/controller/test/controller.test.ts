import { createReadStream } from 'node:fs';
import { mkdtemp, readFile, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { generateKey, type PrivateKey, signPack, writeKeyPair } from '@flotilla/pack';
import { FetchRequest, Presence, topicFor } from '@flotilla/protocol';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type Controller, ControllerClient, type RolloutView, startController } from '../src/index.ts';
import { databaseTemplate, dataDir } from './support/data-dir.ts';
import { type Behaviour, FakeDevice } from './support/fake-device.ts';
import { makePack } from './support/packs.ts';

let controller: Controller;
let client: ControllerClient;
let scratch: string;
let dir: string;
let key: PrivateKey;
const fakes: FakeDevice[] = [];
const log: string[] = [];

beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'flotilla-packs-'));
  key = generateKey();
  const { publicFile } = await writeKeyPair(join(scratch, 'keys'), key);
  dir = await dataDir();
  controller = await startController({
    databaseTemplate,
    dataDir: dir,
    mqtt: { listen: '127.0.0.1:0' },
    http: '127.0.0.1:0',
    trustedKeys: [publicFile],
    bodyTimeoutMs: 2000,
    log: (line) => log.push(line),
  });
  client = await clientOf(controller);
});

afterEach(async () => {
  await Promise.all(fakes.splice(0).map((fake) => fake.stop()));
});

afterAll(async () => {
  await controller.close();
  expect(log).toEqual([]);
});

async function clientOf({ httpUrl, adminTokenFile }: Controller): Promise<ControllerClient> {
  return new ControllerClient({ url: httpUrl, token: (await readFile(adminTokenFile, 'utf8')).trim() });
}

let fleets = 0;
/** A fleet of its own for each test, so that `to` can name it. */
async function fleet(
  behaviours: readonly (Behaviour | undefined)[],
  stepMs = 1,
): Promise<{ name: string; devices: FakeDevice[] }> {
  const name = `fleet-${fleets++}`;
  const devices: FakeDevice[] = [];
  for (const behave of behaviours) {
    const identity = await client.provision({ board: 'raspberrypi-5', fleet: name });
    const fake = new FakeDevice({ identity, stepMs, downloads: true, ...(behave && { behave }) });
    fakes.push(fake);
    devices.push(await fake.connected());
  }
  await expect
    .poll(async () => (await client.devices()).filter((device) => device.fleet === name && device.online).length)
    .toBe(devices.length);
  return { name, devices };
}

let packs = 0;
async function release(name: string): Promise<{ release: string; digest: string }> {
  const seed = ++packs;
  const { path, digest } = await makePack(scratch, seed, key);
  await client.publish(path, name, `1.${seed}.0`);
  return { release: `${name}@1.${seed}.0`, digest };
}

async function finish(id: string): Promise<RolloutView> {
  let last: RolloutView | undefined;
  for await (const view of client.watch(id)) last = view;
  if (last === undefined) throw new Error('no view came');
  return last;
}

describe('a rollout', () => {
  test('canary first, then the rest; everybody proves the loaded digest', async () => {
    const { name, devices } = await fleet([undefined, undefined, undefined]);
    const good = await release('labels');
    const created = await client.createRollout({ release: good.release, to: `fleet = '${name}'`, canary: 1 });
    expect(created.counts).toMatchObject({ offered: 1, queued: 2 });
    const canary = devices.find(({ id }) => id === created.devices[0]?.device);
    const views: RolloutView[] = [];
    for await (const view of client.watch(created.id)) views.push(view);
    const done = views.at(-1);
    expect(done).toMatchObject({ phase: 'done', counts: { done: 3 }, reason: null });
    for (const view of views)
      if (view.phase === 'canary') expect(view.devices.slice(1).every(({ status }) => status === 'queued')).toBe(true);
    expect(devices.every(({ loaded }) => loaded === good.digest)).toBe(true);
    expect(canary?.chunks.length).toBeGreaterThan(0);
    const shown = await client.device(devices[0]?.id ?? '');
    expect(shown.models).toMatchObject([{ name: 'labels', state: 'committed', loadedDigest: good.digest }]);
    expect(shown.models[0]?.version).toBe(good.release.split('@')[1]);
  });

  test('a canary that refuses stops it: nobody else is told, the canary is told to keep what it had', async () => {
    let bad = '';
    const behave: Behaviour = ({ digest }) => (digest === bad ? 'refuse' : 'commit');
    const { name, devices } = await fleet([behave, behave, behave]);
    const good = await release('refused');
    expect(
      (await finish((await client.createRollout({ release: good.release, to: `fleet = '${name}'` })).id)).phase,
    ).toBe('done');
    const worse = await release('refused');
    bad = worse.digest;
    const stopped = await finish((await client.createRollout({ release: worse.release, to: `fleet = '${name}'` })).id);
    expect(stopped).toMatchObject({ phase: 'stopped', counts: { failed: 1, untouched: 2 } });
    expect(stopped.reason).toMatch(/refused the release: the model does not give the expected outputs.*case 1 of 3/);
    const failed = stopped.devices.find(({ status }) => status === 'failed');
    const canary = devices.find(({ id }) => id === failed?.device);
    await expect.poll(() => canary?.desired.at(-1)?.digest).toBe(good.digest);
    expect(canary?.desired.map(({ sequence }) => sequence)).toEqual([1, 2, 3]);
    for (const device of devices)
      if (device !== canary) expect(device.desired.map(({ digest }) => digest)).toEqual([good.digest]);
    await expect.poll(async () => (await client.device(canary?.id ?? '')).models[0]?.state).toBe('committed');
  });

  test('a device that never had a release and refuses its first one gets its desired document withdrawn', async () => {
    const { name, devices } = await fleet([() => 'roll-back']);
    const first = await release('first');
    const stopped = await finish((await client.createRollout({ release: first.release, to: `fleet = '${name}'` })).id);
    expect(stopped).toMatchObject({ phase: 'stopped', devices: [{ why: 'rolled-back', failure: 'unhealthy' }] });
    await expect.poll(() => devices[0]?.withdrawn).toBe(1);
  });

  test('#48 a committed report with another digest loaded is no success, and the deadline ends the waiting', async () => {
    const { name } = await fleet([() => 'lie']);
    const lie = await release('lie');
    const rollout = await client.createRollout({
      release: lie.release,
      to: `fleet = '${name}'`,
      stateDeadlineMs: 1000,
    });
    await expect
      .poll(async () => (await client.rollout(rollout.id)).devices[0]?.why, { timeout: 5000 })
      .toBe('wrong-digest');
    const stopped = await finish(rollout.id);
    expect(stopped).toMatchObject({ phase: 'stopped', devices: [{ status: 'failed', why: 'deadline' }] });
    expect(stopped.reason).toMatch(/missed its deadline: stayed too long in state committed/);
  });

  test('a device that is cut off holds nothing open', async () => {
    const { name, devices } = await fleet([() => 'hang', () => 'hang']);
    const hung = await release('hung');
    const rollout = await client.createRollout({
      release: hung.release,
      to: `fleet = '${name}'`,
      stateDeadlineMs: 1000,
    });
    await expect.poll(async () => (await client.rollout(rollout.id)).devices[0]?.state).toBe('testing');
    devices.find(({ id }) => id === rollout.devices[0]?.device)?.cut();
    await expect.poll(async () => (await client.rollout(rollout.id)).devices[0]?.why).toBe('offline');
    expect(await finish(rollout.id)).toMatchObject({
      phase: 'stopped',
      devices: [{ why: 'deadline', detail: 'went offline in state testing' }, { status: 'untouched' }],
    });
  });

  test('abort calls back who is under way and leaves the others alone; twice is once', async () => {
    const { name, devices } = await fleet([() => 'hang', undefined]);
    const hung = await release('abort');
    const rollout = await client.createRollout({ release: hung.release, to: `fleet = '${name}'`, canary: 2 });
    await expect.poll(async () => (await client.rollout(rollout.id)).counts.done).toBe(1);
    const aborted = await client.abort(rollout.id);
    expect(aborted).toMatchObject({ phase: 'aborted', counts: { done: 1, 'taken-back': 1 } });
    await expect.poll(() => devices[0]?.withdrawn).toBe(1);
    expect(await client.abort(rollout.id)).toEqual(aborted);
  });

  test('paused, it tells nobody new and outlives a failure; resumed, it goes on; what has ended is neither', async () => {
    const name = 'fleet-paused';
    const identities = [await client.provision({ board: 'host', fleet: name })];
    identities.push(await client.provision({ board: 'host', fleet: name }));
    const good = await release('paused');
    const { id } = await client.createRollout({ release: good.release, to: `fleet = '${name}'` });
    expect(await client.pause(id)).toMatchObject({ phase: 'canary', pausedAtMs: expect.any(Number) });
    // Only now, so that the canary cannot be done before the pause.
    const devices = identities.map((identity) => new FakeDevice({ identity }));
    fakes.push(...devices);
    await expect.poll(async () => (await client.rollout(id)).counts.done, { timeout: 30_000 }).toBe(1);
    const held = await client.pause(id);
    expect(held).toMatchObject({ phase: 'canary', counts: { done: 1, queued: 1 } });
    expect(held.devices[1]).toMatchObject({ why: 'paused', sentence: 'waits: the rollout is paused' });
    expect(devices.find((device) => device.id === held.devices[1]?.device)?.desired).toEqual([]);
    expect(await client.resume(id)).toMatchObject({ phase: 'rest', pausedAtMs: null });
    expect(await finish(id)).toMatchObject({ phase: 'done', counts: { done: 2 } });
    const kinds: string[] = [];
    for await (const { kind } of client.events({ after: 0, rollout: id })) {
      kinds.push(kind);
      if (kinds.filter((one) => one === 'rollout.phase').length === 2) break;
    }
    expect(kinds.filter((kind) => kind !== 'rollout.device')).toEqual([
      'rollout.created',
      'rollout.paused',
      'rollout.resumed',
      'rollout.phase',
      'rollout.phase',
    ]);
    await expect(client.pause(id)).rejects.toMatchObject({ code: 'controller/rollout-ended' });
  });

  test('a device is removed; its name comes back with a sequence that goes on', async () => {
    const { name, devices } = await fleet([undefined, undefined]);
    const to = `fleet = '${name}'`;
    await finish((await client.createRollout({ release: (await release('removal')).release, to })).id);
    const [gone] = devices;
    const id = gone?.id ?? '';
    expect(await client.removeDevice(id)).toMatchObject({ id, online: false });
    await expect(client.removeDevice(id)).rejects.toMatchObject({ code: 'controller/not-found' });
    await gone?.stop();
    const identity = await client.provision({ device: id, board: 'raspberrypi-5', fleet: name });
    fakes.push(await new FakeDevice({ identity, stepMs: 1, downloads: true }).connected());
    const last = await finish((await client.createRollout({ release: (await release('removal')).release, to })).id);
    expect(last.phase).toBe('done');
    expect(last.devices.find(({ device }) => device === id)?.sequence).toBe(3);
  });

  test('one rollout of a name at a time', async () => {
    const { name } = await fleet([() => 'hang']);
    const hung = await release('single');
    const rollout = await client.createRollout({ release: hung.release, to: `fleet = '${name}'` });
    await expect(client.createRollout({ release: hung.release, to: 'all' })).rejects.toMatchObject({
      code: 'controller/rollout-active',
    });
    await client.abort(rollout.id);
  });
});

describe('publishing', () => {
  test('a pack that is a folder arrives under the name that it has', async () => {
    const tar = await makePack(scratch, 9100, key);
    const folder = join(scratch, 'folder');
    // Signing anew with the same key changes nothing but where it lies.
    const { digest } = await signPack(tar.path, key, { out: folder });
    expect(await client.publish(folder, 'labels', '9.1.0')).toMatchObject({ digest });
    expect(digest).toBe(tar.digest);
  });
  test('a pack by a stranger, a damaged one and a text file are refused; nothing stays', async () => {
    const stranger = await makePack(scratch, 9001, generateKey());
    await expect(client.publish(stranger.path, 'labels', '9.0.0')).rejects.toMatchObject({
      code: 'controller/pack-refused',
    });
    const good = await makePack(scratch, 9002, key);
    const bytes = await readFile(good.path);
    bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
    const damaged = join(scratch, 'damaged.pack');
    await writeFile(damaged, bytes);
    await expect(client.upload(createReadStream(damaged))).rejects.toMatchObject({ code: 'controller/pack-refused' });
    await writeFile(damaged, 'no pack');
    await expect(client.upload(createReadStream(damaged))).rejects.toMatchObject({ code: 'controller/pack-refused' });
    await expect(client.rollout('r-none')).rejects.toMatchObject({ code: 'controller/not-found' });
  });

  test('a version keeps its pack for ever; the same again is no error', async () => {
    const one = await makePack(scratch, 9003, key);
    const two = await makePack(scratch, 9004, key);
    const first = await client.publish(one.path, 'fixed', '1.0.0');
    expect(await client.publish(one.path, 'fixed', '1.0.0')).toEqual(first);
    await expect(client.publish(two.path, 'fixed', '1.0.0')).rejects.toMatchObject({ code: 'controller/conflict' });
  });

  test('a device gets only blobs of what it was told to hold', async () => {
    const { devices } = await fleet([undefined]);
    const other = await release('secret');
    const [device] = devices;
    const request = { session: 1, digest: other.digest, offset: 0, length: 100 };
    await device?.send(topicFor(device.address, 'fetch'), FetchRequest.encode(request));
    await expect.poll(() => device?.chunks.at(-1)?.error).toBe('not-found');
  });
});

describe('telemetry and calls', () => {
  test('#48 histograms are merged per digest; duplicates and late ones are left out; percentiles are gated', async () => {
    const { devices } = await fleet([undefined]);
    const [device] = devices;
    if (device === undefined) throw new Error('no device');
    const digest = `sha256:${'ab'.repeat(32)}`;
    const windows = (count: number) => Array.from({ length: count }, (_, index) => 1000 + index);
    await device.sendTelemetry('labels', digest, windows(40), 100);
    await expect.poll(async () => (await client.telemetry(device.id))[0]?.latency.count).toBe(40);
    expect((await client.telemetry(device.id))[0]?.latency).toMatchObject({ p90Us: null, p95Us: null, p99Us: null });
    await device.sendTelemetry('labels', digest, windows(60), 100); // again
    await device.sendTelemetry('labels', digest, windows(60), 99); // late
    await device.sendTelemetry('labels', digest, windows(60), 101);
    await expect.poll(async () => (await client.telemetry(device.id))[0]?.latency.count).toBe(100);
    const [view] = await client.telemetry(device.id);
    expect(view).toMatchObject({ name: 'labels', digest, throughputPerS: 50, pssBytes: null, weightsBytes: 3e6 });
    expect(view?.text).toEqual({ timeToFirstTokenMs: 2.5, tokensPerSecond: 80 });
    expect(view?.latency.p50Us).toBeGreaterThan(1020);
    expect(view?.latency.p90Us).not.toBeNull();
    expect(view?.latency.p95Us).toBeNull();
  });

  test('#47 hostile payloads are ignored and counted, names are only data', async () => {
    const { devices } = await fleet([undefined]);
    const [device] = devices;
    if (device === undefined) throw new Error('no device');
    await device.send(topicFor(device.address, 'telemetry'), Buffer.alloc(200_000, 7));
    await device.send(topicFor(device.address, 'presence'), Buffer.from([8, 99]));
    await device.send(topicFor(device.address, 'reported', 'labels'), Buffer.from('garbage'));
    await device.report('failed', { name: 'labels', sequence: 1, detail: "\u0000'); drop table devices; --" });
    await expect.poll(async () => (await client.device(device.id)).models[0]?.detail).toContain('drop table');
    const { ignored } = (await client.statistics()) as { ignored: { [code: string]: number } };
    expect(ignored).toMatchObject({ 'protocol/version': 1, 'protocol/too-large': 1, 'protocol/decode': 1 });
  });

  test('a flood of reports keeps the newest and delays nobody', async () => {
    const { devices } = await fleet([undefined, undefined]);
    const [flooder, other] = devices;
    if (flooder === undefined || other === undefined) throw new Error('no device');
    const flood = Array.from({ length: 500 }, (_, index) =>
      flooder.report('downloading', { name: 'flood', sequence: 1, bytesDone: index + 1 }),
    );
    await other.report('testing', { name: 'flood', sequence: 1 });
    await expect.poll(async () => (await client.device(other.id)).models[0]?.state).toBe('testing');
    await Promise.all(flood);
    await expect
      .poll(async () => (await client.device(flooder.id)).models[0]?.bytesDone, { timeout: 10_000 })
      .toBe(500);
  });

  test('a call goes to the device and its answer comes back', async () => {
    const { devices } = await fleet([undefined]);
    const id = devices[0]?.id ?? '';
    expect(await client.call(id, { name: 'commands', prompt: 'hi' })).toMatchObject({
      text: 'echo hi',
      timeToFirstTokenMs: 1.5,
    });
    expect((await client.call(id, { name: 'commands', prompt: 'hi', adapter: ' intents' })).text).toBe(
      'echo hi intents',
    );
    await expect(client.call(id, { name: 'commands', prompt: 'fail' })).rejects.toMatchObject({
      code: 'controller/device-error',
    });
    await expect(client.call(id, { name: 'commands', prompt: 'silence', timeoutMs: 200 })).rejects.toMatchObject({
      code: 'controller/device-silent',
    });
    devices[0]?.cut();
    await expect.poll(async () => (await client.device(id)).online).toBe(false);
    await expect(client.call(id, { name: 'commands', prompt: 'hi' })).rejects.toMatchObject({
      code: 'controller/device-offline',
    });
  });
});

test('#42 a device whose clock was ahead is told the session that it must exceed', async () => {
  const identity = await client.provision({ board: 'raspberrypi-5', fleet: 'clocks' });
  const ahead = new FakeDevice({ identity, session: Date.now() + 315e9 });
  fakes.push(ahead);
  const patience = { timeout: 20_000 };
  const online = async () => (await client.device(identity.device)).online;
  await expect.poll(online, patience).toBe(true);
  await ahead.stop(); // its will says that it is gone
  await expect.poll(online, patience).toBe(false);
  const behind = new FakeDevice({ identity, session: 1000 });
  fakes.push(behind);
  const told = () => behind.presences.map((payload) => Presence.decode(payload)).at(-1);
  // Not the broker's retained word, which is lost where a controller with its broker starts again.
  const word = { session: ahead.session, online: false, instance: Number.MAX_SAFE_INTEGER };
  await expect.poll(told, patience).toMatchObject(word);
  expect(await online()).toBe(false);
  await behind.stop();
  const healed = new FakeDevice({ identity, session: ahead.session + 1 });
  fakes.push(healed);
  await expect.poll(online, patience).toBe(true);
});

test('what is secret is readable by its owner only', async () => {
  for (const file of ['admin.token', 'keys/flotilla.key'])
    expect((await stat(join(dir, file))).mode & 0o777).toBe(0o600);
});
