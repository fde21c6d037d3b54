import { connect as connectTcp, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { type DeviceAddress, topicFor } from '@flotilla/protocol';
import mqtt, { type IClientOptions, type MqttClient } from 'mqtt';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { startEmbeddedBroker } from '../src/broker/embedded.ts';
import { defaultBrokerLimits } from '../src/broker/limits.ts';
import type { Link } from '../src/broker/link.ts';

const devices = new Map<string, DeviceAddress>(
  ['pi-1', 'pi-2', 'pi-3'].map((device) => [device, { fleet: 'main', device }]),
);
const pi1: DeviceAddress = { fleet: 'main', device: 'pi-1' };
const pi2: DeviceAddress = { fleet: 'main', device: 'pi-2' };

let link: Link;
let received: string[];
let offences: string[];
const clients: MqttClient[] = [];
const sockets: Socket[] = [];

beforeEach(async () => {
  received = [];
  offences = [];
  link = await startEmbeddedBroker({
    endpoint: { host: '127.0.0.1', port: 0 },
    limits: { ...defaultBrokerLimits, connectTimeoutMs: 1500 },
    authenticate: (device, secret) =>
      Buffer.from(secret).toString() === `secret of ${device}` ? devices.get(device) : undefined,
    knows: (device) => devices.has(device),
    onOffence: (what) => offences.push(what),
  });
  await link.attach((topic, payload) => received.push(`${topic} ${Buffer.from(payload).toString()}`));
});

afterEach(async () => {
  for (const client of clients.splice(0)) client.end(true);
  for (const socket of sockets.splice(0)) socket.destroy();
  await link.close();
});

/** Resolves with the client, or with the return code that the broker refused it with. */
function join(device: string, options: IClientOptions = {}): Promise<MqttClient | number> {
  const client = mqtt.connect(link.url, {
    clientId: device,
    username: device,
    password: `secret of ${device}`,
    reconnectPeriod: 0,
    ...options,
  });
  clients.push(client);
  return new Promise((resolve) => {
    client.once('connect', () => resolve(client));
    client.on('error', (error) => resolve(Number((error as { code?: unknown }).code ?? -1)));
    client.once('close', () => resolve(-1));
  });
}

async function joined(device: string, options?: IClientOptions): Promise<MqttClient> {
  const client = await join(device, options);
  if (typeof client === 'number') throw new Error(`${device} was refused: ${client}`);
  return client;
}

const closed = (client: MqttClient): Promise<true> =>
  new Promise((resolve) => client.once('close', () => resolve(true)));

function raw(bytes: Uint8Array): Promise<{ socket: Socket; closed: Promise<true> }> {
  const { hostname, port } = new URL(link.url);
  const socket = connectTcp(Number(port), hostname);
  sockets.push(socket);
  socket.on('error', () => undefined);
  socket.resume();
  const end = new Promise<true>((resolve) => socket.once('close', () => resolve(true)));
  return new Promise((resolve) => {
    socket.once('connect', () => socket.write(bytes, () => resolve({ socket, closed: end })));
  });
}

/** The broker still serves: a device's publish reaches the controller, and the controller's reaches the device. */
async function servesOthers(): Promise<void> {
  const client = await joined('pi-3');
  await client.subscribeAsync(topicFor({ fleet: 'main', device: 'pi-3' }, 'call'), { qos: 1 });
  const message = new Promise<string>((resolve) => client.once('message', (_, payload) => resolve(payload.toString())));
  await client.publishAsync(topicFor({ fleet: 'main', device: 'pi-3' }, 'telemetry'), 'still here', { qos: 1 });
  await link.publish(topicFor({ fleet: 'main', device: 'pi-3' }, 'call'), Buffer.from('hello'));
  expect(await message).toBe('hello');
  expect(received).toContain('flotilla/v1/main/pi-3/telemetry still here');
  await client.endAsync();
}

describe('identity', () => {
  test('a device with its own id and secret is served', servesOthers);

  test.each<[string, string, IClientOptions, number]>([
    ['a wrong secret', 'pi-1', { password: 'wrong' }, 4],
    ['no password', 'pi-1', { username: '', password: '' }, 4],
    ['an unknown device', 'pi-9', {}, 4],
    ["another identity's client id", 'pi-1', { clientId: 'pi-2' }, 5],
    ['an empty client id', 'pi-1', { clientId: '' }, 5],
  ])('%s is refused', async (_, device, options, code) => {
    expect(await join(device, options)).toBe(code);
    await servesOthers();
  });

  test("#46 another identity cannot take over a device's connection", async () => {
    const victim = await joined('pi-1');
    expect(await join('pi-2', { clientId: 'pi-1' })).toBe(5);
    expect(victim.connected).toBe(true);
  });

  test('#48 a second client with the same identity takes the place of the first, as MQTT says', async () => {
    const first = await joined('pi-1');
    const end = closed(first);
    const second = await joined('pi-1');
    expect(await end).toBe(true);
    expect(second.connected).toBe(true);
  });
});

describe('#46 topics', () => {
  test.each([
    ['$SYS', '$SYS/x'],
    ["another device's topic", topicFor(pi2, 'presence')],
    ["the controller's own topic", topicFor(pi1, 'desired', 'labels')],
    ['another root', 'x/y'],
    ['a topic of 60 levels', '/'.repeat(60)],
    ['a topic of 65,535 levels', '/'.repeat(65_535)],
    ['an upper-case model name', `${topicFor(pi1, 'reported', 'x').slice(0, -1)}X`],
  ])('a publish to %s costs the connection and reaches nobody', async (_, topic) => {
    const offender = await joined('pi-1');
    const end = closed(offender);
    offender.publish(topic, 'x');
    expect(await end).toBe(true);
    expect(received).toEqual([]);
    await servesOthers();
  });

  test.each([
    '#',
    '+',
    '$SYS/#',
    'flotilla/v1/main/+/presence',
    topicFor(pi2, 'desired', 'x'),
    topicFor(pi1, 'telemetry'),
  ])('a subscription to %s costs the connection', async (filter) => {
    const offender = await joined('pi-1');
    const end = closed(offender);
    offender.subscribe(filter, () => undefined);
    expect(await end).toBe(true);
    await servesOthers();
  });

  test.each([topicFor(pi2, 'presence'), topicFor(pi1, 'telemetry'), '$SYS/x'])(
    'a will on %s is refused at CONNECT and never published',
    async (topic) => {
      expect(await join('pi-1', { will: { topic, payload: Buffer.from('boo'), qos: 1, retain: true } })).toBe(5);
      await sleep(50);
      expect(received).toEqual([]);
    },
  );

  test('its own will is published when the device is cut off', async () => {
    const will = { topic: topicFor(pi1, 'presence'), payload: Buffer.from('gone'), qos: 1 as const, retain: true };
    (await joined('pi-1', { will })).stream.destroy();
    await expect.poll(() => received).toEqual(['flotilla/v1/main/pi-1/presence gone']);
  });

  test('only so many retained topics', async () => {
    const offender = await joined('pi-1');
    const end = closed(offender);
    for (let index = 0; index < 40; index++)
      offender.publish(topicFor(pi1, 'reported', `m${index}`), 'x', { retain: true });
    expect(await end).toBe(true);
    expect(received.length).toBeLessThanOrEqual(32);
  });

  test('a QoS 2 storm without PUBREL ends at the window', async () => {
    const offender = await joined('pi-1');
    await offender.publishAsync(topicFor(pi1, 'telemetry'), 'fine', { qos: 2 });
    offender.stream.destroy();
    const bytes = [connectPacket('pi-1')];
    const topic = Buffer.from(topicFor(pi1, 'telemetry'));
    for (let id = 1; id <= 200; id++) {
      const body = Buffer.concat([u16(topic.length), topic, u16(id), Buffer.from('x')]);
      bytes.push(Buffer.concat([Buffer.from([0x34, body.length]), body]));
    }
    const storm = await raw(Buffer.concat(bytes));
    expect(await storm.closed).toBe(true);
    await servesOthers();
  });
});

describe('#46 bytes before CONNECT', () => {
  const huge = Buffer.from([0x10, 0xff, 0xff, 0xff, 0x7f]); // CONNECT of 268,435,455 bytes

  test('268 MB announced and then silence, 100 times: all closed at once, memory stays', async () => {
    const before = process.memoryUsage().rss;
    for (let wave = 0; wave < 2; wave++) {
      const attackers = await Promise.all(Array.from({ length: 50 }, () => raw(huge)));
      await Promise.all(attackers.map(({ closed: end }) => end));
    }
    // Because of what they announced, not because their time was up.
    expect(offences.filter((what) => what.startsWith('a packet of 268435455 bytes'))).toHaveLength(100);
    await servesOthers();
    expect(process.memoryUsage().rss - before).toBeLessThan(64 * 2 ** 20);
  });

  test('20 MiB each from 10 anonymous connections is never buffered', async () => {
    const before = process.memoryUsage().rss;
    const body = Buffer.alloc(20 * 2 ** 20, 0x41);
    const attackers = await Promise.all(
      Array.from({ length: 10 }, async () => {
        const attacker = await raw(Buffer.from([0x10, 0x80, 0x80, 0x80, 0x0a]));
        attacker.socket.write(body);
        return attacker;
      }),
    );
    await Promise.all(attackers.map(({ closed: end }) => end));
    expect(process.memoryUsage().rss - before).toBeLessThan(96 * 2 ** 20);
    await servesOthers();
  });

  test.each([
    ['garbage', Buffer.from('GET / HTTP/1.1\r\n\r\n')],
    ['a PUBLISH first', Buffer.from([0x30, 0x03, 0x00, 0x01, 0x61])],
    ['a length of five bytes', Buffer.from([0x10, 0xff, 0xff, 0xff, 0xff, 0xff])],
    ['a CONNECT of no bytes', Buffer.from([0x10, 0x00])],
    ['a CONNECT of noise', Buffer.from([0x10, 0x05, 1, 2, 3, 4, 5])],
    ['MQTT 5', Buffer.from([0x10, 0x0d, 0, 4, 0x4d, 0x51, 0x54, 0x54, 5, 2, 0, 60, 0, 0, 0])],
  ])('%s is closed', async (_, bytes) => {
    expect(await (await raw(bytes)).closed).toBe(true);
    await servesOthers();
  });

  test('silence, and one byte at a time, are closed when the time is up', async () => {
    const silent = await raw(new Uint8Array());
    const slow = await raw(Buffer.from([0x10]));
    const drip = setInterval(() => slow.socket.write(Buffer.from([0x00])), 400);
    const start = Date.now();
    await Promise.all([silent.closed, slow.closed]);
    clearInterval(drip);
    expect(Date.now() - start).toBeLessThan(4000);
    await servesOthers();
  });

  test('more than the allowed number without a CONNECT are turned away; a device still gets in', async () => {
    const crowd = await Promise.all(
      Array.from({ length: defaultBrokerLimits.maxPendingPerAddress + 20 }, () => raw(new Uint8Array())),
    );
    await expect.poll(() => offences.filter((what) => what.includes('from one address')).length).toBe(20);
    await Promise.all(crowd.map(({ closed: end }) => end));
    await servesOthers();
  });
});

test('#47 a packet over the limit costs an accepted device its connection', async () => {
  const offender = await joined('pi-1');
  const end = closed(offender);
  offender.publish(topicFor(pi1, 'telemetry'), Buffer.alloc(10 * 2 ** 20));
  expect(await end).toBe(true);
  expect(received).toEqual([]);
  await servesOthers();
});

test('what follows a CONNECT in the same segment is served after it is accepted', async () => {
  const topic = Buffer.from(topicFor(pi1, 'telemetry'));
  const body = Buffer.concat([u16(topic.length), topic, Buffer.from('early')]);
  await raw(Buffer.concat([connectPacket('pi-1'), Buffer.from([0x30, body.length]), body]));
  await expect.poll(() => received).toEqual(['flotilla/v1/main/pi-1/telemetry early']);
});

function u16(value: number): Uint8Array {
  return Buffer.from([value >> 8, value & 0xff]);
}

function connectPacket(device: string): Uint8Array {
  const field = (text: string): Uint8Array => Buffer.concat([u16(text.length), Buffer.from(text)]);
  const body = Buffer.concat([
    field('MQTT'),
    Buffer.from([4, 0xc2, 0, 60]),
    field(device),
    field(device),
    field(`secret of ${device}`),
  ]);
  return Buffer.concat([Buffer.from([0x10, body.length]), body]);
}
