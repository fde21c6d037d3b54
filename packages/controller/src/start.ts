import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { PublicKey } from '@flotilla/pack';
import { type BrokerLimits, defaultBrokerLimits, startEmbeddedBroker } from './broker/embedded.ts';
import { connectExternalBroker } from './broker/external.ts';
import type { Link } from './broker/link.ts';
import { ChunkServer } from './chunks.ts';
import { type Clock, systemClock } from './clock.ts';
import { openDatabase } from './db/open.ts';
import { ControllerError } from './errors.ts';
import { startHttpServer } from './http/server.ts';
import { Ingest } from './ingest.ts';
import { openSigningKey, readTrustedKeys } from './keys.ts';
import { checkFree, type Endpoint, parseEndpoint } from './listen.ts';
import { lockDataDir } from './lock.ts';
import { Outbox } from './outbox.ts';
import { PackStore } from './pack-store.ts';
import { Registry } from './registry.ts';
import { RolloutEngine } from './rollout/engine.ts';
import { Service } from './service.ts';
import { addTelemetry } from './telemetry.ts';
import { Timeline } from './timeline.ts';
import { Tokens } from './tokens.ts';

export interface ControllerOptions {
  /** Keys, tokens, packs and, unless `database` is given, the database. Made if need be, mode 0700. */
  readonly dataDir: string;
  /** `listen`: the embedded broker, `host:port` (default `127.0.0.1:1883`); `url`: a broker that somebody else runs. */
  readonly mqtt?: { readonly listen?: string | undefined } | { readonly url: string } | undefined;
  /** What devices are told to connect to, where that differs from where the broker listens. */
  readonly publicMqttUrl?: string | undefined;
  /** Default `127.0.0.1:8080`; port 0 takes any free one. */
  readonly http?: string | undefined;
  /** A PostgreSQL URL; without it the embedded database. */
  readonly database?: string | undefined;
  /**
   * A folder where an empty embedded database is kept between controllers, to be copied instead of made anew (which
   * takes some 7 seconds of processor time). Filled by the first that needs it. Default: none.
   */
  readonly databaseTemplate?: string | undefined;
  /**
   * Public keys of which one must have signed a pack: files, or folders of `*.pub`. Default: `<dataDir>/trusted`. With
   * none at all no pack is taken and no device provisioned.
   */
  readonly trustedKeys?: readonly string[] | undefined;
  /** Default 4 GiB. */
  readonly maxPackBytes?: number | undefined;
  readonly brokerLimits?: Partial<BrokerLimits> | undefined;
  /** How long a request's body may stand still. Default 30 s. */
  readonly bodyTimeoutMs?: number | undefined;
  readonly clock?: Clock | undefined;
  /** One line per fault; default: stderr. */
  readonly log?: ((line: string) => void) | undefined;
}

export interface Controller {
  /** Where devices connect. */
  readonly mqttUrl: string;
  readonly httpUrl: string;
  /** The file that holds the admin token. */
  readonly adminTokenFile: string;
  close(): Promise<void>;
}

const TICK_MS = 500;
const GIB = 2 ** 30;

/**
 * Starts the server: database, broker, rollout engine, HTTP API. What an earlier controller on the same data left
 * unfinished is taken up.
 * @throws {ControllerError} `controller/locked`, `controller/port-in-use`, `controller/listen`, `controller/database`,
 *   `controller/broker`, `controller/key`, `controller/data-dir`
 */
export async function startController(options: ControllerOptions): Promise<Controller> {
  const cleanup: (() => Promise<unknown>)[] = [];
  const close = async (): Promise<void> => {
    for (const undo of cleanup.splice(0).toReversed()) await undo();
  };
  try {
    const addresses = await start(options, (undo) => void cleanup.push(undo));
    let closing: Promise<void> | undefined;
    return { ...addresses, close: () => (closing ??= close()) };
  } catch (error) {
    await close();
    throw error;
  }
}

async function start(
  options: ControllerOptions,
  onClose: (undo: () => Promise<unknown>) => void,
): Promise<Omit<Controller, 'close'>> {
  const { dataDir, clock = systemClock, log = (line: string) => void process.stderr.write(`${line}\n`) } = options;
  const onError = (error: unknown): void =>
    log(`controller: ${error instanceof Error ? error.message : String(error)}`);
  const httpEndpoint = parseEndpoint(options.http ?? '127.0.0.1:8080', 'http');
  const mqttEndpoint = mqttEndpointOf(options);
  if (mqttEndpoint !== undefined) await checkFree(mqttEndpoint, 'mqtt');
  await checkFree(httpEndpoint, 'http');
  await openDataDir(dataDir);
  onClose(await lockDataDir(dataDir));
  const key = await openSigningKey(dataDir);
  const trusted = await trustedKeys(options);

  const db = await openDatabase(dataDir, options.database, options.databaseTemplate);
  onClose(() => db.destroy());
  const registry = await Registry.load(db);
  const timeline = new Timeline(db);
  await timeline.prune();
  const tokens = await Tokens.load(db, clock);
  const adminTokenFile = await tokens.ensureAdmin(dataDir);
  const packs = await PackStore.open(join(dataDir, 'packs'), trusted);
  onClose(() => packs.close());

  const stopping = new AbortController();
  const { signal } = stopping;
  const outbox = new Outbox({ db, registry, key, onError });
  const engine = new RolloutEngine({ db, registry, timeline, outbox, clock, signal });
  onClose(async () => {
    stopping.abort();
    await outbox.close();
    await engine.close();
  });

  const offences = new Map<string, number>();
  // Before the broker lets a device in: a report that finds no rollout would be lost.
  await engine.resume();
  const link = await startLink(options, mqttEndpoint, registry, (what) =>
    offences.set(what, (offences.get(what) ?? 0) + 1),
  );
  onClose(() => link.close());
  const chunks = new ChunkServer({ db, registry, packs, link, onError });
  const brokerUrl = options.publicMqttUrl ?? link.url;
  const service = new Service({
    db,
    registry,
    timeline,
    engine,
    packs,
    tokens,
    link,
    key,
    trustedKeys: trusted,
    brokerUrl,
    maxPackBytes: options.maxPackBytes ?? 4 * GIB,
    clock,
    signal,
  });
  const ingest = new Ingest({
    registry,
    presence: (device, presence) => engine.presence(device, presence),
    reported: (device, report) => engine.reported(device, report),
    telemetry: (device, window) => addTelemetry({ db, timeline, clock, signal }, device, window),
    fetch: (device, request) => chunks.push(device, request),
    answer: (device, answer) => service.calls.answered(device, answer),
    onError,
  });
  await link.attach(ingest.receive);
  onClose(async () => {
    await ingest.close();
    await chunks.close();
  });
  await outbox.connect(link);
  onClose(startTicking(engine, outbox, onError));

  const http = await startHttpServer(httpEndpoint, {
    service,
    timeline,
    tokens,
    statistics: () => ({
      ignored: Object.fromEntries(ingest.ignored),
      dropped: { messages: ingest.dropped, fetches: chunks.dropped },
      offences: Object.fromEntries(offences),
    }),
    bodyTimeoutMs: options.bodyTimeoutMs ?? 30_000,
    onError,
    signal,
  });
  onClose(async () => {
    stopping.abort(); // ends event streams, or the server would wait for them
    await http.close();
  });
  return { mqttUrl: link.url, httpUrl: http.url, adminTokenFile };
}

/** undefined where somebody else runs the broker. */
function mqttEndpointOf({ mqtt = {} }: ControllerOptions): Endpoint | undefined {
  return 'url' in mqtt ? undefined : parseEndpoint(mqtt.listen ?? '127.0.0.1:1883', 'mqtt');
}

function startLink(
  options: ControllerOptions,
  endpoint: Endpoint | undefined,
  registry: Registry,
  onOffence: (what: string) => void,
): Promise<Link> {
  const { mqtt } = options;
  if (endpoint === undefined) return connectExternalBroker(mqtt !== undefined && 'url' in mqtt ? mqtt.url : '');
  return startEmbeddedBroker({
    endpoint,
    limits: { ...defaultBrokerLimits, ...options.brokerLimits },
    authenticate: (device, secret) => registry.authenticate(device, secret),
    onOffence,
  });
}

/** Deadlines, and messages that the broker did not take the first time. */
function startTicking(engine: RolloutEngine, outbox: Outbox, onError: (error: unknown) => void): () => Promise<void> {
  let ticking = Promise.resolve();
  let isBusy = false;
  const timer = setInterval(() => {
    if (isBusy) return;
    isBusy = true;
    outbox.send();
    ticking = engine
      .tick()
      .catch(onError)
      .finally(() => {
        isBusy = false;
      });
  }, TICK_MS);
  return () => {
    clearInterval(timer);
    return ticking;
  };
}

async function openDataDir(dataDir: string): Promise<void> {
  try {
    await mkdir(dataDir, { recursive: true, mode: 0o700 });
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? 'error';
    throw new ControllerError('controller/data-dir', `cannot make ${dataDir}: ${code}`, { where: dataDir, cause });
  }
}

async function trustedKeys({ dataDir, trustedKeys: given }: ControllerOptions): Promise<readonly PublicKey[]> {
  if (given !== undefined) return readTrustedKeys(given);
  const folder = join(dataDir, 'trusted');
  await mkdir(folder, { recursive: true });
  return readTrustedKeys([folder]);
}
