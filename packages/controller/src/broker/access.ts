import {
  type DeviceAddress,
  deviceSubscriptions,
  isFromDevice,
  parseTopic,
  ProtocolError,
  type Topic,
  topicFor,
} from '@flotilla/protocol';

/** The one place that says what a device may do on the broker: its own topics, nothing else. */
export function mayPublish(device: DeviceAddress, topic: string): Topic | undefined {
  const parsed = parse(topic);
  return parsed !== undefined && isOwn(device, parsed) && isFromDevice(parsed.kind) ? parsed : undefined;
}

/** Its will tells that it is gone: on `presence`, nowhere else. */
export function mayLeaveWill(device: DeviceAddress, topic: string): boolean {
  return topic === topicFor(device, 'presence');
}

/** `desired/+` or one `desired/<name>`, `chunk`, `call`. */
export function maySubscribe(device: DeviceAddress, filter: string): boolean {
  if (deviceSubscriptions(device).includes(filter)) return true;
  const parsed = parse(filter);
  return parsed !== undefined && isOwn(device, parsed) && !isFromDevice(parsed.kind);
}

/** Only these stay on the broker; anywhere else a retain flag is dropped. */
export const mayRetain = (topic: Topic): boolean => topic.kind === 'presence' || topic.kind === 'reported';

const isOwn = (device: DeviceAddress, topic: Topic): boolean =>
  topic.device === device.device && topic.fleet === device.fleet;

function parse(topic: string): Topic | undefined {
  try {
    return parseTopic(topic);
  } catch (error) {
    if (error instanceof ProtocolError) return undefined;
    throw error;
  }
}
