import { startEmbeddedBroker } from './broker/embedded.ts';
import { connectExternalBroker } from './broker/external.ts';
import { type BrokerLimits, defaultBrokerLimits } from './broker/limits.ts';
import type { Link } from './broker/link.ts';
import { Calls } from './calls.ts';
import { ChunkServer } from './chunks.ts';
import { Ingest } from './ingest.ts';
import type { Endpoint } from './listen.ts';
import { isOwnWord, tellNewestSession } from './overtaken.ts';
import type { ControllerState } from './state.ts';
import { addTelemetry } from './telemetry.ts';
import type { World } from './world.ts';

export type BrokerChoice =
  | { readonly endpoint: Endpoint; readonly limits: Partial<BrokerLimits> | undefined }
  | { readonly url: string };

export interface DeviceTraffic {
  /** Where devices connect. */
  readonly url: string;
  readonly calls: Calls;
  readonly link: Link;
  /** Counters of what was ignored, dropped or refused. */
  readonly statistics: () => { readonly [name: string]: unknown };
}

/** Connects the controller's state with the devices: what they send goes in, what it decides goes out. */
export async function startDeviceTraffic(
  broker: BrokerChoice,
  state: ControllerState,
  world: World,
): Promise<DeviceTraffic> {
  const { db, registry, timeline, packs, engine, outbox } = state;
  const { clock, onError, signal, onClose } = world;
  const offences = new Map<string, number>();
  const link = await openLink(broker, state, (what) => offences.set(what, (offences.get(what) ?? 0) + 1));
  onClose(() => link.close());
  const chunks = new ChunkServer({ db, registry, packs, link, onError });
  onClose(() => chunks.close());
  const calls = new Calls(registry, link);
  const ingest = new Ingest({
    registry,
    presence: async (id, presence) => {
      if (isOwnWord(presence)) return;
      const device = registry.get(id);
      if (device !== undefined && presence.online && presence.session < device.session)
        await tellNewestSession(link, { fleet: device.fleet, device: id }, device.session);
      await engine.presence(id, presence);
    },
    reported: (device, report) => engine.reported(device, report),
    telemetry: (device, window) => addTelemetry({ db, timeline, clock, signal }, device, window),
    fetch: (device, request) => chunks.push(device, request),
    answer: (device, answer) => calls.answered(device, answer),
    onError,
  });
  onClose(() => ingest.close());
  await link.attach(ingest.receive);
  await outbox.connect(link);
  onClose(startTicking(state, onError));
  const statistics = () => ({
    ignored: Object.fromEntries(ingest.ignored),
    dropped: { messages: ingest.dropped, fetches: chunks.dropped },
    offences: Object.fromEntries(offences),
  });
  return { url: link.url, link, calls, statistics };
}

function openLink(
  broker: BrokerChoice,
  { registry }: ControllerState,
  onOffence: (what: string) => void,
): Promise<Link> {
  if ('url' in broker) return connectExternalBroker(broker.url);
  return startEmbeddedBroker({
    endpoint: broker.endpoint,
    limits: { ...defaultBrokerLimits, ...broker.limits },
    authenticate: (device, secret) => registry.authenticate(device, secret),
    knows: (device) => registry.get(device) !== undefined,
    onOffence,
  });
}

const TICK_MS = 500;

/** Deadlines, and messages that the broker did not take the first time. */
function startTicking({ engine, outbox }: ControllerState, onError: (error: unknown) => void): () => Promise<void> {
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
