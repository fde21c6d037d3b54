import { systemClock } from './clock.ts';
import { type BrokerChoice, startDeviceTraffic } from './device-traffic.ts';
import { startHttpServer } from './http/server.ts';
import { checkFree, parseEndpoint } from './listen.ts';
import type { Controller, ControllerOptions } from './options.ts';
import { Service } from './service.ts';
import { openState } from './state.ts';
import type { World } from './world.ts';

const GIB = 2 ** 30;

/** See `startController`. */
export async function serve(options: ControllerOptions): Promise<Controller> {
  const { clock = systemClock, log = (line: string) => void process.stderr.write(`${line}\n`) } = options;
  const onError = (error: unknown): void =>
    log(`controller: ${error instanceof Error ? error.message : String(error)}`);
  const stopping = new AbortController();
  const undos: (() => Promise<unknown>)[] = [];
  const close = async (): Promise<void> => {
    stopping.abort();
    // One that fails must not keep the others from their turn: the lock is the last.
    for (const undo of undos.splice(0).toReversed()) await undo().catch(onError);
  };
  let closing: Promise<void> | undefined;
  const closeOnce = (): Promise<void> => (closing ??= close());
  let finish: { readonly resolve: () => void; readonly reject: (error: Error) => void } | undefined;
  const done = new Promise<void>((resolve, reject) => {
    finish = { resolve, reject };
  });
  done.catch(() => undefined); // whoever waits for it hears of it; nobody must
  let fault: Error | undefined;
  const onFatal = (error: Error): void => {
    fault = error;
    // Not at once: what is under way would wait for itself to end.
    setImmediate(() => void closeOnce().then(() => finish?.reject(error)));
  };
  try {
    const onClose = (undo: () => Promise<unknown>): void => void undos.push(undo);
    const addresses = await start(options, { clock, onError, onFatal, signal: stopping.signal, onClose });
    return {
      ...addresses,
      done,
      async close() {
        await closeOnce();
        if (fault === undefined) finish?.resolve();
      },
    };
  } catch (error) {
    await closeOnce();
    throw error;
  }
}

async function start(options: ControllerOptions, world: World): Promise<Omit<Controller, 'close' | 'done'>> {
  const endpoint = parseEndpoint(options.http ?? '127.0.0.1:8080', 'http');
  const broker = brokerOf(options);
  if ('endpoint' in broker) await checkFree(broker.endpoint, 'mqtt');
  await checkFree(endpoint, 'http');
  const state = await openState(options, world);
  const traffic = await startDeviceTraffic(broker, state, world);
  const service = new Service({
    ...state,
    ...world,
    calls: traffic.calls,
    link: traffic.link,
    brokerUrl: options.publicMqttUrl ?? traffic.url,
    maxPackBytes: options.maxPackBytes ?? 4 * GIB,
  });
  const http = await startHttpServer(endpoint, {
    ...state,
    ...world,
    service,
    statistics: traffic.statistics,
    bodyTimeoutMs: options.bodyTimeoutMs ?? 30_000,
  });
  world.onClose(() => http.close());
  return { mqttUrl: traffic.url, httpUrl: http.url, adminTokenFile: state.adminTokenFile };
}

function brokerOf({ mqtt = {}, brokerLimits }: ControllerOptions): BrokerChoice {
  if ('url' in mqtt) return mqtt;
  return { endpoint: parseEndpoint(mqtt.listen ?? '127.0.0.1:1883', 'mqtt'), limits: brokerLimits };
}
