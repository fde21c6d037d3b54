import { generateKey, keyId, type PrivateKey, sign } from '@flotilla/pack';
import {
  Answer,
  Call,
  Chunk,
  controllerSubscriptions,
  type DesiredRelease,
  FetchRequest,
  parseTopic,
  Presence,
  ProtocolError,
  Reported,
  signDesired,
  Telemetry,
  topicFor,
} from '@flotilla/protocol';
import mqtt, { type MqttClient } from 'mqtt';
import type { Identity } from '../src/index.ts';
import { packKey, type TestPack } from './packs.ts';

/** The controller's half of the protocol, as small as it can be. */
export class TestController {
  readonly key: PrivateKey = generateKey();
  readonly reports: Reported[] = [];
  readonly presences: Presence[] = [];
  readonly telemetry: Telemetry[] = [];
  readonly answers: Answer[] = [];
  readonly fetched: string[] = [];
  readonly packs: TestPack[] = [];
  /** Loses every so many-th chunk. */
  lose: ((request: FetchRequest) => boolean) | undefined;
  private readonly client: MqttClient;

  private constructor(client: MqttClient) {
    this.client = client;
    client.on('message', (topic, payload) => this.receive(topic, new Uint8Array(payload)));
  }

  static async connect(
    url: string,
    user?: { readonly username: string; readonly password: string },
  ): Promise<TestController> {
    const controller = new TestController(
      await mqtt.connectAsync(url, { ...user, clientId: 'controller', reconnectPeriod: 200 }),
    );
    await controller.client.subscribeAsync([...controllerSubscriptions], { qos: 1 });
    return controller;
  }

  identity(url: string, device = 'pi-1'): Identity {
    return {
      device,
      fleet: 'test',
      board: 'raspberrypi-5',
      brokerUrl: url,
      secret: `${device}-secret`,
      controllerKey: publicPem(this.key),
      trustedPackKeys: [publicPem(packKey)],
    };
  }

  async want(release: DesiredRelease, key = this.key, successions: readonly Uint8Array[] = []): Promise<void> {
    const signer = { id: keyId(key.publicKey), sign: (bytes: Uint8Array) => sign(key, bytes), successions };
    const payload = signDesired(release, signer);
    const topic = topicFor({ fleet: 'test', device: release.device }, 'desired', release.name);
    await this.client.publishAsync(topic, Buffer.from(payload), { qos: 1, retain: true });
  }

  async call(call: Partial<Call> & { readonly id: string }, device = 'pi-1'): Promise<Answer> {
    const whole: Call = { name: 'labels', prompt: '', maxTokens: 0, benchMs: 0, ...call };
    await this.client.publishAsync(topicFor({ fleet: 'test', device }, 'call'), Buffer.from(Call.encode(whole)), {
      qos: 1,
    });
    return until(() => this.answers.find(({ id }) => id === call.id));
  }

  /** The first report that is as asked. */
  reported(want: Partial<Reported>): Promise<Reported> {
    return until(() =>
      this.reports.find((report) =>
        Object.entries(want).every(([key, value]) => report[key as keyof Reported] === value),
      ),
    );
  }

  close(): Promise<void> {
    return this.client.endAsync(true);
  }

  private receive(topic: string, payload: Uint8Array): void {
    try {
      this.take(topic, payload);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error; // strangers may say anything
    }
  }

  private take(topic: string, payload: Uint8Array): void {
    const { kind, fleet, device } = parseTopic(topic);
    if (kind === 'reported') this.reports.push(Reported.decode(payload));
    else if (kind === 'presence') this.presences.push(Presence.decode(payload));
    else if (kind === 'telemetry') this.telemetry.push(Telemetry.decode(payload));
    else if (kind === 'answer') this.answers.push(Answer.decode(payload));
    else if (kind === 'fetch') this.serve({ fleet, device }, FetchRequest.decode(payload));
  }

  private serve(address: { readonly fleet: string; readonly device: string }, request: FetchRequest): void {
    if (this.lose?.(request)) return;
    const { digest, offset, length } = request;
    this.fetched.push(`${digest} ${offset}`);
    const blob = this.packs.map(({ blobs }) => blobs.get(digest)).find((one) => one !== undefined);
    const data = blob?.subarray(offset, offset + length) ?? new Uint8Array();
    const chunk = Chunk.encode({
      digest,
      offset,
      data,
      blobBytes: blob?.length ?? 0,
      error: blob === undefined ? 'not-found' : '',
    });
    this.client.publish(topicFor(address, 'chunk'), Buffer.from(chunk), { qos: 1 });
  }
}

export const publicPem = (key: PrivateKey): string => key.publicKey.pem;

export async function until<T>(look: () => T | Promise<T> | undefined | false, ms = 15_000): Promise<T> {
  const end = Date.now() + ms;
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    if (Date.now() > end) throw new Error(`waited ${ms} ms for: ${look.toString().slice(0, 300)}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
