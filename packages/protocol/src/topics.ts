import { ProtocolError } from './errors.ts';

/** Topics of one device, straight under its root. */
export type PlainKind = 'presence' | 'telemetry' | 'fetch' | 'answer' | 'call' | 'chunk';
/** Topics with a model's name as the last level. */
export type NamedKind = 'reported' | 'desired';
export type TopicKind = PlainKind | NamedKind;

export interface DeviceAddress {
  readonly fleet: string;
  readonly device: string;
}
export type Topic = DeviceAddress &
  ({ readonly kind: PlainKind; readonly name?: undefined } | { readonly kind: NamedKind; readonly name: string });

const plain: readonly string[] = ['presence', 'telemetry', 'fetch', 'answer', 'call', 'chunk'] satisfies PlainKind[];
const named: readonly string[] = ['reported', 'desired'] satisfies NamedKind[];
const namePattern = /^[a-z0-9][a-z0-9._-]{0,63}$/;

/** True for what may name a device, a fleet or a model: `[a-z0-9][a-z0-9._-]{0,63}`. Also safe as a folder's name. */
export const isName = (name: string): boolean => namePattern.test(name);

/** @throws {ProtocolError} `protocol/topic` if `name` cannot name a device, a fleet or a model */
export function checkName(name: string, what: string): string {
  if (isName(name)) return name;
  throw new ProtocolError('protocol/topic', `${what} ${JSON.stringify(name.slice(0, 80))} is not a valid name`, {
    where: what,
    hint: 'use 1 to 64 of a-z 0-9 . _ - and begin with a letter or digit',
  });
}

/** `flotilla/v1/<fleet>/<device>`. */
export function topicRoot(address: DeviceAddress): string {
  return `flotilla/v1/${checkName(address.fleet, 'fleet')}/${checkName(address.device, 'device')}`;
}

/** @throws {ProtocolError} `protocol/topic` for a bad fleet, device or model name */
export function topicFor(address: DeviceAddress, kind: PlainKind): string;
export function topicFor(address: DeviceAddress, kind: NamedKind, name: string): string;
export function topicFor(address: DeviceAddress, kind: TopicKind, name?: string): string {
  const topic = `${topicRoot(address)}/${kind}`;
  return name === undefined ? topic : `${topic}/${checkName(name, 'model')}`;
}

/** What a device subscribes to; its own presence, to notice a second agent with the same identity. */
export function deviceSubscriptions(address: DeviceAddress): readonly string[] {
  const root = topicRoot(address);
  return [`${root}/desired/+`, `${root}/chunk`, `${root}/call`, `${root}/presence`];
}

/** What a controller subscribes to, for all fleets. */
export const controllerSubscriptions: readonly string[] = [
  'presence',
  'reported/+',
  'telemetry',
  'fetch',
  'answer',
].map((tail) => `flotilla/v1/+/+/${tail}`);

/** True for the kinds that a device publishes; the others come from the controller. */
export function isFromDevice(kind: TopicKind): boolean {
  return kind !== 'desired' && kind !== 'call' && kind !== 'chunk';
}

/** @throws {ProtocolError} `protocol/version` for another protocol's version, `protocol/topic` for anything else foreign */
export function parseTopic(topic: string): Topic {
  const [system, version, fleet = '', device = '', kind = '', name, ...rest] = topic.slice(0, 512).split('/');
  if (system === 'flotilla' && version !== undefined && version !== 'v1' && /^v\d+$/.test(version))
    throw new ProtocolError('protocol/version', `topic of protocol ${version}, this is v1`, { where: version });
  const known = name === undefined ? plain.includes(kind) : named.includes(kind);
  if (system !== 'flotilla' || version !== 'v1' || !known || rest.length > 0 || topic.length > 512)
    throw new ProtocolError('protocol/topic', `not a topic of this protocol: ${JSON.stringify(topic.slice(0, 120))}`);
  checkName(fleet, 'fleet');
  checkName(device, 'device');
  if (name === undefined) return { fleet, device, kind: kind as PlainKind };
  return { fleet, device, kind: kind as NamedKind, name: checkName(name, 'model') };
}
