import { createPublicKey, verify } from 'node:crypto';
import {
  Answer,
  Call,
  Chunk,
  CHUNK_BYTES,
  type DesiredRelease,
  type DeviceAddress,
  deviceSubscriptions,
  type FailureReason,
  FetchRequest,
  parseTopic,
  Presence,
  Reported,
  type State,
  Telemetry,
  topicFor,
  verifyDesired,
} from '@flotilla/protocol';
import { keyId, parsePublicKey } from '@flotilla/pack';
import { build, encodeIntoCompressedBase64 } from 'hdr-histogram-js';
import mqtt, { type MqttClient } from 'mqtt';
import type { Identity } from '../../src/index.ts';

/** What it does with a release: by the digest it is told to hold. */
export type Behaviour = (release: DesiredRelease) => 'commit' | 'refuse' | 'roll-back' | 'hang' | 'lie';

export interface FakeDeviceOptions {
  readonly identity: Identity;
  readonly behave?: Behaviour;
  /** Between two states. */
  readonly stepMs?: number;
  /** Fetches the manifest before it goes on. */
  readonly downloads?: boolean;
  readonly session?: number;
}

const steps: readonly State[] = [
  'fetching',
  'downloading',
  'verifying',
  'installing',
  'testing',
  'measuring',
  'switching',
  'trial',
];

/** The device's side of the protocol, simulated: enough of an agent to be a load for the real controller. */
export class FakeDevice {
  readonly id: string;
  readonly address: DeviceAddress;
  /** Sequences of the desired releases that came, in order. */
  readonly desired: DesiredRelease[] = [];
  readonly chunks: Chunk[] = [];
  readonly presences: Uint8Array[] = [];
  withdrawn = 0;
  loaded = '';
  counter = 0;
  readonly session: number;
  /** When each desired release came, on this process's clock. */
  readonly arrivals: number[] = [];
  private readonly told = new Map<string, Reported>();
  private readonly options: FakeDeviceOptions;
  private readonly mqtt: MqttClient;
  private work: Promise<void> = Promise.resolve();
  private stopped = false;

  constructor(options: FakeDeviceOptions) {
    const { identity } = options;
    this.options = options;
    this.id = identity.device;
    this.address = { fleet: identity.fleet, device: identity.device };
    this.session = options.session ?? Date.now();
    this.mqtt = mqtt.connect(identity.brokerUrl, {
      clientId: this.id,
      username: this.id,
      password: identity.secret,
      reconnectPeriod: 50,
      connectTimeout: 5000,
      will: {
        topic: topicFor(this.address, 'presence'),
        payload: Buffer.from(
          Presence.encode({
            protocol: 1,
            session: this.session,
            instance: this.session,
            online: false,
            birth: undefined,
          }),
        ),
        qos: 1,
        retain: true,
      },
    });
    this.mqtt.on('error', () => undefined);
    this.mqtt.on('connect', () => void this.greet().catch(() => undefined));
    this.mqtt.on('message', (topic, payload) => this.receive(topic, payload));
  }

  async connected(): Promise<this> {
    if (!this.mqtt.connected) await new Promise((resolve) => this.mqtt.once('connect', resolve));
    return this;
  }

  /** Without a word, as a power cut. */
  cut(): void {
    this.stopped = true;
    this.mqtt.options.reconnectPeriod = 0;
    this.mqtt.stream.destroy();
    this.mqtt.end(true);
  }

  async stop(): Promise<void> {
    this.stopped = true;
    await this.mqtt.endAsync(true);
  }

  async report(
    state: State,
    about: Partial<Reported> & { readonly name: string; readonly sequence: number },
  ): Promise<void> {
    const report: Reported = {
      session: this.session,
      state,
      releaseDigest: '',
      loadedDigest: this.loaded,
      reason: undefined,
      detail: '',
      waiting: undefined,
      bytesDone: 0,
      bytesTotal: 0,
      atMs: 0,
      ...about,
      counter: ++this.counter,
    };
    this.told.set(about.name, report);
    await this.send(topicFor(this.address, 'reported', about.name), Reported.encode(report), true);
  }

  async sendTelemetry(
    name: string,
    digest: string,
    latenciesUs: readonly number[],
    counter = ++this.counter,
  ): Promise<void> {
    const histogram = build({ bitBucketSize: 32, autoResize: true, useWebAssembly: false });
    for (const value of latenciesUs) histogram.recordValue(value);
    const window: Telemetry = {
      session: this.session,
      counter,
      name,
      digest,
      latencyHistogram: Buffer.from(encodeIntoCompressedBase64(histogram), 'base64'),
      throughputPerS: latenciesUs.length,
      peakRssBytes: 50e6,
      pssBytes: 0,
      weightsBytes: 3e6,
      windowMs: 1000,
      failures: 0,
      timeToFirstTokenUs: 2500,
      tokensPerSecond: 80,
    };
    await this.send(topicFor(this.address, 'telemetry'), Telemetry.encode(window));
  }

  async send(topic: string, payload: Uint8Array, retain = false): Promise<void> {
    await this.mqtt.publishAsync(topic, Buffer.from(payload), { qos: 1, retain });
  }

  private async greet(): Promise<void> {
    const birth = {
      agentVersion: '0',
      runtimeVersion: '0',
      board: 'fake',
      boardClass: 'fake',
      ramBytes: 1,
      freeStorageBytes: 1,
    };
    await this.mqtt.subscribeAsync([...deviceSubscriptions(this.address)], { qos: 1 });
    const presence = Presence.encode({
      protocol: 1,
      session: this.session,
      instance: this.session,
      online: true,
      birth,
    });
    await this.send(topicFor(this.address, 'presence'), presence, true);
    // Whether the last one was kept by a controller that died meanwhile, nobody knows: tell it again.
    for (const report of this.told.values()) await this.report(report.state, report);
  }

  private receive(text: string, payload: Uint8Array): void {
    const topic = parseTopic(text);
    if (topic.kind === 'presence') this.presences.push(payload); // whatever it is
    if (topic.kind === 'chunk') this.chunks.push(Chunk.decode(payload));
    if (topic.kind === 'call') void this.answer(Call.decode(payload));
    if (topic.kind !== 'desired') return;
    if (payload.length === 0) return void this.withdrawn++;
    const key = parsePublicKey(this.options.identity.controllerKey);
    const release = verifyDesired(payload, {
      device: this.id,
      name: topic.name,
      keyId: keyId(key),
      verify: (bytes, signature) => verify(null, bytes, createPublicKey(key.pem), signature),
    });
    const last = this.desired.at(-1);
    if (last !== undefined && last.name === release.name && release.sequence <= last.sequence) return;
    this.desired.push(release);
    this.arrivals.push(performance.now());
    this.work = this.work.then(() => this.follow(release)).catch(() => undefined);
  }

  private async follow(release: DesiredRelease): Promise<void> {
    const isNewest = (): boolean => this.desired.filter(({ name }) => name === release.name).at(-1) === release;
    const about = { name: release.name, sequence: release.sequence, releaseDigest: release.digest };
    if (release.digest === this.loaded) return this.report('committed', about);
    const behaviour = this.options.behave?.(release) ?? 'commit';
    for (const state of steps) {
      if (this.stopped || !isNewest()) return;
      await this.report(state, about);
      if (state === 'fetching' && this.options.downloads === true) await this.download(release);
      if (state === 'testing' && behaviour === 'refuse') return this.fail('failed', about, 'golden-mismatch');
      if (state === 'testing' && behaviour === 'hang') return;
      if (state === 'trial' && behaviour === 'roll-back') return this.fail('rolled-back', about, 'unhealthy');
      await new Promise((resolve) => setTimeout(resolve, this.options.stepMs ?? 1));
    }
    if (behaviour !== 'lie') this.loaded = release.digest;
    if (!this.stopped && isNewest()) await this.report('committed', about);
  }

  private fail(state: State, about: { name: string; sequence: number }, reason: FailureReason): Promise<void> {
    return this.report(state, { ...about, reason, detail: 'case 1 of 3' });
  }

  private async download(release: DesiredRelease): Promise<void> {
    const topic = topicFor(this.address, 'fetch');
    for (let offset = 0; offset < release.manifestBytes; offset += CHUNK_BYTES) {
      const request = FetchRequest.encode({
        session: this.session,
        digest: release.digest,
        offset,
        length: CHUNK_BYTES,
      });
      const before = this.chunks.length;
      for (let waited = 0; this.chunks.length === before && !this.stopped; waited++) {
        if (waited % 100 === 0) await this.send(topic, request); // lost with a controller that died: asked again
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    }
  }

  private async answer({ id, prompt, adapter = '' }: Call): Promise<void> {
    const failed = prompt === 'fail';
    const answer = {
      id,
      digest: this.loaded,
      text: `echo ${prompt}${adapter}`,
      tokens: 2,
      timeToFirstTokenUs: 1500,
      tokensPerSecond: 20,
      error: failed ? 'runtime/timeout: too slow' : '',
    };
    if (prompt !== 'silence') await this.send(topicFor(this.address, 'answer'), Answer.encode(answer));
  }
}
