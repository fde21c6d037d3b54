import { createServer, type Socket } from 'node:net';
import { type DeviceAddress, controllerSubscriptions } from '@flotilla/protocol';
import {
  Aedes,
  type AedesOptions,
  type AedesPublishPacket,
  type AuthenticateError,
  type Client,
  type ConnectPacket,
} from 'aedes';
import { type Endpoint, listen, urlOf } from '../listen.ts';
import { mayLeaveWill, mayPublish, mayRetain, maySubscribe } from './access.ts';
import { ConnectionBook } from './connection-book.ts';
import { GuardedConnection } from './guarded-connection.ts';
import type { BrokerLimits } from './limits.ts';
import type { Link, Receive } from './link.ts';

export interface EmbeddedBrokerOptions {
  readonly endpoint: Endpoint;
  readonly limits: BrokerLimits;
  /** @returns the device's address if the secret is its own */
  readonly authenticate: (device: string, secret: Uint8Array) => DeviceAddress | undefined;
  /** Whether there is such a device still. */
  readonly knows: (device: string) => boolean;
  /** Told of each connection that was refused or cut off, and why. */
  readonly onOffence?: ((what: string, address: string) => void) | undefined;
}

/** What Aedes answers with, MQTT 3.1.1 §3.2.2.3. */
const BAD_CREDENTIALS = 4;
const NOT_AUTHORIZED = 5;

const MAX_RETAINED_NAMES = 32;

/** Aedes behind the guard. Sessions are never kept: what must survive is retained, so nothing piles up for the absent. */
export async function startEmbeddedBroker(options: EmbeddedBrokerOptions): Promise<Link> {
  const { limits, endpoint } = options;
  const book = new ConnectionBook(limits);
  const clients = new Map<string, Client>();
  const aedes = await Aedes.createBroker({
    concurrency: 256,
    connectTimeout: limits.connectTimeoutMs,
    drainTimeout: 20_000,
    maxInflightInbound: 16,
    maxTopicLevels: 8,
    ...rules(options, book),
  });
  aedes.on('client', (client) => clients.set(client.id, client));
  aedes.on('clientDisconnect', (client) => {
    if (clients.get(client.id) === client) clients.delete(client.id);
  });
  aedes.on('clientError', (client, error) => options.onOffence?.(error.message, addressOf(client)));
  aedes.on('connectionError', (client, error) => options.onOffence?.(error.message, addressOf(client)));
  const server = createServer((socket: Socket) => {
    const connection = new GuardedConnection(socket, limits);
    connection.on('error', () => undefined); // Aedes listens too, but not from the first moment
    const refused = book.enter(connection);
    if (refused === undefined) return void aedes.handle(connection as unknown as Socket);
    options.onOffence?.(refused, connection.address);
    connection.destroy(new Error(refused));
  });
  const port = await listen(server, endpoint, 'mqtt').catch(async (error: unknown) => {
    await closeAedes(aedes);
    throw error;
  });
  return {
    url: urlOf('mqtt', endpoint, port),
    async attach(receive) {
      await Promise.all(controllerSubscriptions.map((topic) => subscribe(aedes, topic, receive)));
    },
    cut: (device) => new Promise((resolve) => (clients.get(device) ? clients.get(device)?.close(resolve) : resolve())),
    publish: (topic, payload, { retain = false } = {}) => publish(aedes, topic, payload, retain),
    async close() {
      const closed = new Promise((resolve) => server.close(resolve));
      await closeAedes(aedes);
      book.destroyAll();
      await closed;
    },
  };
}

type Rules = Required<Pick<AedesOptions, 'preConnect' | 'authenticate' | 'authorizePublish' | 'authorizeSubscribe'>>;

/** Who may connect, and what each may do then. Whoever tries anything else is told of, and Aedes hangs up. */
function rules({ authenticate, knows, onOffence }: EmbeddedBrokerOptions, book: ConnectionBook): Rules {
  const peers = new WeakMap<Client, Peer>();
  const offence = (what: string, client: Client | null): Error => {
    onOffence?.(what, addressOf(client));
    return new Error(what);
  };
  return {
    preConnect(client, packet, done) {
      packet.clean = true;
      peers.set(client, { packet, address: undefined, retained: new Set() });
      done(null, true);
    },
    authenticate(client, username, password, done) {
      const peer = peers.get(client);
      const refuse = (returnCode: number, what: string): void =>
        done(Object.assign(offence(what, client), { returnCode }) as unknown as AuthenticateError, false);
      const address = username === undefined ? undefined : authenticate(username, password ?? new Uint8Array());
      if (peer === undefined || address === undefined) return refuse(BAD_CREDENTIALS, 'unknown device or wrong secret');
      if (client.id !== username) return refuse(NOT_AUTHORIZED, 'a client id that is not the identity');
      const { will } = peer.packet;
      if (will !== undefined && !mayLeaveWill(address, will.topic)) return refuse(NOT_AUTHORIZED, 'a foreign will');
      peer.address = address;
      const connection = client.conn as unknown as GuardedConnection;
      book.settle(connection);
      connection.accept();
      done(null, true);
    },
    authorizePublish(client, packet, done) {
      const peer = client === null ? undefined : peers.get(client);
      const address = peer?.address;
      // The will of a device that was removed, too: it would be retained for ever.
      const topic = address !== undefined && knows(address.device) ? mayPublish(address, packet.topic) : undefined;
      if (peer === undefined || topic === undefined) return done(offence('publish to a foreign topic', client));
      packet.retain = packet.retain && mayRetain(topic);
      if (packet.retain && peer.retained.add(packet.topic).size > MAX_RETAINED_NAMES)
        return done(offence('too many retained topics', client));
      done(null);
    },
    authorizeSubscribe(client, subscription, done) {
      const address = peers.get(client)?.address;
      if (address !== undefined && maySubscribe(address, subscription.topic)) return done(null, subscription);
      done(offence('subscribe to a foreign topic', client), null);
    },
  };
}

const addressOf = (client: Client | null): string =>
  client?.conn instanceof GuardedConnection ? client.conn.address : '';

interface Peer {
  readonly packet: ConnectPacket;
  readonly retained: Set<string>;
  address: DeviceAddress | undefined;
}

const subscribe = (aedes: Aedes, topic: string, receive: Receive): Promise<void> =>
  new Promise((resolve) => {
    const deliver = (packet: AedesPublishPacket, done: () => void): void => {
      receive(packet.topic, packet.payload as Uint8Array);
      done();
    };
    aedes.subscribe(topic, deliver, resolve);
  });

const publish = (aedes: Aedes, topic: string, payload: Uint8Array, retain: boolean): Promise<void> =>
  new Promise((resolve, reject) => {
    const packet = { cmd: 'publish', topic, payload: Buffer.from(payload), qos: 1, retain, dup: false } as const;
    aedes.publish(packet, (error) => (error ? reject(error) : resolve()));
  });

const closeAedes = (aedes: Aedes): Promise<void> => new Promise((resolve) => aedes.close(resolve));
