import {
  type Birth,
  Presence,
  PROTOCOL,
  ProtocolError,
  parseTopic,
  topicFor,
  deviceSubscriptions,
} from '@flotilla/protocol';
import mqtt, { type IClientOptions, type MqttClient } from 'mqtt';
import type { Counters } from '../counters.ts';
import { AgentError } from '../errors.ts';
import type { Clock, Link, LinkEvents, Outgoing } from '../ports.ts';
import { Rivalry } from './rival.ts';

export interface MqttLinkOptions {
  readonly url: string;
  readonly fleet: string;
  readonly device: string;
  readonly secret: string;
  readonly clock: Clock;
  readonly random: () => number;
  readonly counters: Counters;
  /** One line about what a person may want to know. */
  readonly log: (line: string) => void;
}

/** Telemetry and answers that wait for a link; the oldest go first. */
const OUTBOX = 32;
const CONNECT_MS = 10_000;
const KEEPALIVE_S = 20;
/** Pauses between attempts double up to this; each is drawn from the upper half, so that a fleet does not come at once. */
const PAUSE_MS = { first: 250, most: 30_000 } as const;
/** MQTT.js would take http:// for the name of a host, and try for ever. */
const ADDRESS = /^(?:mqtts?|tcp|ssl|tls|wss?):\/\/[^/]/;
/** CONNACK: bad user name or password; not authorized. */
const REFUSED: readonly unknown[] = [4, 5, 134, 135];

/**
 * The MQTT 3.1.1 session. Every connection is a new client with a clean session: what must not be lost is retained on
 * the broker (desired) or is told again (reported), and the will needs a session number of its own each time.
 */
export class MqttLink implements Link {
  online = false;
  session = 0;
  private readonly options: MqttLinkOptions;
  private readonly rivalry: Rivalry;
  private readonly outbox: Outgoing[] = [];
  private events: LinkEvents | undefined;
  private birth: (() => Promise<Birth>) | undefined;
  private client: MqttClient | undefined;
  private highestSeen = 0;
  private failures = 0;
  private wasOnline = false;
  private stopPause: () => void = () => undefined;
  private closed = false;

  constructor(options: MqttLinkOptions) {
    this.options = options;
    this.rivalry = new Rivalry(options.counters.instance);
  }

  start(events: LinkEvents, birth: () => Promise<Birth>): void {
    this.events = events;
    this.birth = birth;
    void this.connect();
  }

  publish(message: Outgoing): void {
    if (this.client === undefined || !this.online) {
      if (message.kind !== 'telemetry' && message.kind !== 'answer') return;
      this.outbox.push(message);
      if (this.outbox.length > OUTBOX) this.outbox.shift();
      return;
    }
    const { kind, payload } = message;
    const topic = kind === 'reported' ? topicFor(this.options, kind, message.name) : topicFor(this.options, kind);
    // A fetch that is lost is asked again anyway; everything else is to arrive at least once.
    this.send(this.client, topic, payload, { qos: kind === 'fetch' ? 0 : 1, retain: kind === 'reported' });
  }

  async close(): Promise<void> {
    this.closed = true;
    this.stopPause();
    const { client } = this;
    if (client === undefined) return;
    if (this.online) await this.sayGoodbye(client);
    this.online = false;
    await client.endAsync(!client.connected).catch(() => undefined);
  }

  private async connect(): Promise<void> {
    const { url, device, secret, counters } = this.options;
    try {
      this.session = await counters.nextSession(this.highestSeen);
    } catch (error) {
      this.retry(`the session number cannot be kept: ${String(error)}`);
      return;
    }
    if (this.closed) return;
    const options: IClientOptions = {
      clientId: device,
      username: device,
      password: secret,
      clean: true,
      protocolVersion: 4,
      reconnectPeriod: 0,
      connectTimeout: CONNECT_MS,
      keepalive: KEEPALIVE_S,
      queueQoSZero: false,
      will: { topic: topicFor(this.options, 'presence'), payload: this.presence(false), qos: 1, retain: true },
    };
    let client: MqttClient;
    try {
      if (!ADDRESS.test(url)) throw new Error('not a scheme of MQTT');
      client = mqtt.connect(url, options);
    } catch (error) {
      this.events?.fatal(
        new AgentError('agent/identity', `${url} is no MQTT address`, {
          where: url,
          hint: 'write mqtt://host:1883 or mqtts://host:8883',
          cause: error,
        }),
      );
      return;
    }
    this.client = client;
    let problem: Error | undefined;
    client.on('error', (error) => (problem = error));
    client.on('connect', () => void this.greet(client).catch((error: unknown) => this.drop(client, error)));
    client.on('message', (topic, payload, packet) => {
      if (client === this.client) this.receive(topic, new Uint8Array(payload), packet.retain);
    });
    client.once('close', () => this.lost(client, problem));
  }

  /** Subscribes, then tells that the device is there. */
  private async greet(client: MqttClient): Promise<void> {
    const grants = await client.subscribeAsync([...deviceSubscriptions(this.options)], { qos: 1 });
    const refused = grants.find(({ qos }) => qos === 128);
    if (refused !== undefined) throw new Error(`the broker refuses to deliver ${refused.topic}`);
    const birth = await this.birth?.();
    if (client !== this.client || !client.connected || this.closed) return;
    this.send(client, topicFor(this.options, 'presence'), this.presence(true, birth), { qos: 1, retain: true });
    this.online = true;
    this.wasOnline = true;
    this.failures = 0;
    this.events?.up();
    for (const message of this.outbox.splice(0)) this.publish(message);
  }

  private receive(topic: string, payload: Uint8Array, retained: boolean): void {
    try {
      const { kind, name } = parseTopic(topic);
      if (kind === 'presence') this.onPresence(payload, retained);
      else if (kind === 'desired') {
        if (payload.length > 0) this.events?.desired(name, payload); // an empty one is a retained document removed
      } else if (kind === 'chunk') this.events?.chunk(payload);
      else if (kind === 'call') this.events?.call(payload);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.options.log(`ignored a message on ${topic.slice(0, 160)}: ${error.message}`);
    }
  }

  private onPresence(payload: Uint8Array, retained: boolean): void {
    if (payload.length === 0) return;
    const presence = Presence.decode(payload);
    if (presence.instance === this.options.counters.instance) return;
    this.highestSeen = Math.max(this.highestSeen, presence.session);
    if (this.rivalry.mustYield(presence, retained)) {
      const { device } = this.options;
      this.stop(
        new AgentError('agent/identity-in-use', `another agent runs as device "${device}", and was there first`, {
          where: device,
          hint: 'stop one of the two, or provision a device of its own for this one',
        }),
      );
    } else if (presence.session >= this.session && this.client !== undefined) {
      // A controller ignores what is older than this: come again with a higher session.
      this.options.log(`session ${this.session} is behind ${presence.session}, seen on the broker`);
      this.drop(this.client, undefined);
    }
  }

  private lost(client: MqttClient, problem: (Error & { readonly code?: unknown }) | undefined): void {
    if (client !== this.client || this.closed) return;
    client.removeAllListeners('message');
    this.client = undefined;
    if (this.online) {
      this.online = false;
      this.events?.down(problem?.message ?? 'connection closed');
    }
    if (!this.wasOnline && REFUSED.includes(problem?.code)) {
      const { url, device } = this.options;
      const message = `the broker at ${url} refuses device "${device}": ${problem?.message ?? ''}`;
      this.stop(new AgentError('agent/broker-refused', message, { where: url, hint: 'provision the device again' }));
      return;
    }
    this.retry(problem?.message ?? 'connection closed');
  }

  private retry(why: string): void {
    if (this.closed) return;
    const longest = Math.min(PAUSE_MS.most, PAUSE_MS.first * 2 ** Math.min(this.failures, 10));
    this.failures++;
    const pauseMs = longest * (0.5 + this.options.random() / 2);
    this.options.log(`no link to ${this.options.url} (${why}); next try in ${Math.ceil(pauseMs)} ms`);
    this.stopPause = this.options.clock.after(pauseMs, () => void this.connect());
  }

  private drop(client: MqttClient, error: unknown): void {
    if (error !== undefined) this.options.log(`link: ${error instanceof Error ? error.message : 'lost'}`);
    client.end(true);
  }

  private stop(error: AgentError): void {
    this.closed = true;
    this.stopPause();
    const { client } = this;
    this.client = undefined;
    this.online = false;
    // A DISCONNECT, so that the broker does not publish the will over the other agent's birth.
    client?.end(false, {}, () => undefined);
    this.events?.fatal(error);
  }

  private send(client: MqttClient, topic: string, payload: Uint8Array, how: { qos: 0 | 1; retain: boolean }): void {
    client.publish(topic, Buffer.from(payload.buffer, payload.byteOffset, payload.length), how, () => undefined);
  }

  private async sayGoodbye(client: MqttClient): Promise<void> {
    const payload = this.presence(false);
    const sent = client.publishAsync(topicFor(this.options, 'presence'), payload, { qos: 1, retain: true });
    const late = new Promise<void>((resolve) => this.options.clock.after(1000, resolve));
    await Promise.race([sent, late]).catch(() => undefined);
  }

  private presence(online: boolean, birth?: Birth): Buffer {
    const { instance } = this.options.counters;
    return Buffer.from(Presence.encode({ protocol: PROTOCOL, session: this.session, online, instance, birth }));
  }
}
