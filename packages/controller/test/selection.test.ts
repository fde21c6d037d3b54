import { describe, expect, test } from 'vitest';
import { ControllerError, parseSelection, type Selectable } from '../src/index.ts';

const devices: readonly Selectable[] = [
  { id: 'a', fleet: 'main', board: 'raspberrypi-5', name: 'door', tags: ['lab', 'eu'] },
  { id: 'b', fleet: 'main', board: 'raspberrypi-4b', name: 'gate', tags: ['eu'] },
  { id: 'c', fleet: 'test', board: 'raspberrypi-5', name: "it's", tags: [] },
];
const select = (text: string): string =>
  devices
    .filter(parseSelection(text))
    .map(({ id }) => id)
    .join('');

test.each([
  ['all', 'abc'],
  [' all ', 'abc'],
  ["board = 'raspberrypi-5'", 'ac'],
  ["board='raspberrypi-5'", 'ac'],
  ['name = "it\'s"', 'c'],
  ["tag = 'eu'", 'ab'],
  ["tag != 'lab'", 'bc'],
  ["not tag = 'lab'", 'bc'],
  ["device = 'b' or device = 'c'", 'bc'],
  ["fleet = 'main' and board = 'raspberrypi-5'", 'a'],
  ["device = 'c' or fleet = 'main' and tag = 'lab'", 'ac'],
  ["(device = 'c' or fleet = 'main') and not tag = 'lab'", 'bc'],
  ["not (board = 'raspberrypi-5' or tag = 'eu')", ''],
  ["name = ''", ''],
])('%s', (text, ids) => expect(select(text)).toBe(ids));

describe('refused, naming the column', () => {
  test.each([
    ['', 1],
    ['board', 6],
    ["board = 'x", 8],
    ["board = 'x' and", 16],
    ["board = 'x' xor tag = 'y'", 13],
    ["colour = 'x'", 1],
    ["constructor = 'x'", 1],
    ["__proto__ = 'x'", 1],
    ["toString = 'x'", 1],
    ['board = x', 9],
    ["'x' = board", 1],
    ["(tag = 'x'", 11],
    ["tag = 'x')", 10],
    ["tag = 'x'; drop table devices", 10],
    ['('.repeat(100), 33],
    ['not '.repeat(100), 129],
    ['x'.repeat(2000), 1001],
  ])('%s', (text, column) => {
    expect(() => parseSelection(text)).toThrow(ControllerError);
    expect(() => parseSelection(text)).toThrow(new RegExp(`column ${column}:`));
  });
});
