import { expect, test } from 'vitest';
import {
  controllerSubscriptions,
  deviceSubscriptions,
  isFromDevice,
  isName,
  parseTopic,
  ProtocolError,
  topicFor,
} from '../src/index.ts';

const address = { fleet: 'plant-7', device: 'pi-1' };

test('topics are built and parsed', () => {
  expect(topicFor(address, 'chunk')).toBe('flotilla/v1/plant-7/pi-1/chunk');
  expect(topicFor(address, 'reported', 'labels')).toBe('flotilla/v1/plant-7/pi-1/reported/labels');
  expect(parseTopic('flotilla/v1/plant-7/pi-1/chunk')).toEqual({ ...address, kind: 'chunk' });
  expect(parseTopic('flotilla/v1/plant-7/pi-1/desired/a.b')).toEqual({ ...address, kind: 'desired', name: 'a.b' });
});

test('both sides subscribe to what the other publishes', () => {
  expect(deviceSubscriptions(address)).toEqual([
    'flotilla/v1/plant-7/pi-1/desired/+',
    'flotilla/v1/plant-7/pi-1/chunk',
    'flotilla/v1/plant-7/pi-1/call',
    'flotilla/v1/plant-7/pi-1/presence',
  ]);
  for (const filter of controllerSubscriptions) {
    const topic = parseTopic(filter.replace('v1/+/+', 'v1/f/d').replace('+', 'm'));
    expect(isFromDevice(topic.kind)).toBe(true);
  }
});

test.each([
  '',
  'flotilla',
  'flotilla/v1/f/d',
  'flotilla/v1/f/d/presence/x',
  'flotilla/v1/f/d/desired',
  'flotilla/v1/f/d/desired/a/b',
  'flotilla/v1/f/d/secret',
  'flotilla/v1/F/d/presence',
  'flotilla/v1/f/../presence',
  'flotilla/v1/+/d/presence',
  `flotilla/v1/f/${'d'.repeat(65)}/presence`,
  '/'.repeat(65_535),
  '$SYS/broker/clients',
])('#46 a foreign topic is refused: %.40s', (topic) => {
  expect(() => parseTopic(topic)).toThrow(ProtocolError);
});

test('a topic of another version says so', () => {
  expect(() => parseTopic('flotilla/v2/f/d/presence')).toThrow(expect.objectContaining({ code: 'protocol/version' }));
});

test('names are safe as topic levels and as folders', () => {
  for (const name of ['a', '0', 'pi-1', 'a.b_c', 'x'.repeat(64)]) expect(isName(name)).toBe(true);
  for (const name of ['', '.', '..', '-a', 'A', 'a/b', 'a b', 'ä', 'a\n', 'x'.repeat(65)])
    expect(isName(name)).toBe(false);
});
