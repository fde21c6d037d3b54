import { controllerSubscriptions } from '@flotilla/protocol';
import { connectAsync, type MqttClient } from 'mqtt';
import { ControllerError } from '../errors.ts';
import type { Link } from './link.ts';

const PATIENCE_MS = 10_000;
const SCHEMES: readonly string[] = ['mqtt:', 'mqtts:', 'tcp:', 'ssl:', 'tls:', 'ws:', 'wss:'];

/**
 * A broker that somebody else runs. It must itself keep each device to its own topics: see the README for the rules.
 * @throws {ControllerError} `controller/broker`
 */
export async function connectExternalBroker(url: string): Promise<Link> {
  const shown = withoutPassword(url);
  let client: MqttClient;
  try {
    client = await connectAsync(url, { clean: true, connectTimeout: PATIENCE_MS, reconnectPeriod: 1000 }, false);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message || (cause as NodeJS.ErrnoException).code : String(cause);
    throw new ControllerError('controller/broker', `${shown}: ${reason ?? 'no connection'}`, {
      where: shown,
      cause,
      hint: 'check the URL, user and password, and that the broker runs',
    });
  }
  client.on('error', () => undefined); // mqtt.js connects again by itself
  let onReconnect = (): void => undefined;
  client.on('connect', () => onReconnect());
  return {
    url: shown,
    onReconnect(act) {
      onReconnect = act;
    },
    async attach(receive) {
      client.on('message', (topic, payload) => receive(topic, payload));
      await client.subscribeAsync([...controllerSubscriptions], { qos: 1 });
    },
    async publish(topic, payload, { retain = false } = {}) {
      await client.publishAsync(topic, Buffer.from(payload), { qos: 1, retain });
    },
    close: () => client.endAsync(),
  };
}

function withoutPassword(url: string): string {
  try {
    const parsed = new URL(url);
    // MQTT.js would take http:// for an address of MQTT.
    if (!SCHEMES.includes(parsed.protocol)) throw new Error('another scheme');
    parsed.username = '';
    parsed.password = '';
    return parsed.href.replace(/\/$/, '');
  } catch {
    throw new ControllerError('controller/broker', `${JSON.stringify(url)} is not the URL of an MQTT broker`, {
      hint: 'write mqtt://host:1883 or mqtts://host:8883',
    });
  }
}
