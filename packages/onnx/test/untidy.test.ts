import { describe, expect, test } from 'vitest';
import { cloneModel, decodeModel, encodeModel, type Model } from '../src/index.ts';
import { field, input, int, model, node, output, type Part, reluModel, tensor, varint } from './raw.ts';

const group = Buffer.from([0xbb, 0x3e, 0x08, 0x01, 0xbc, 0x3e]);
const unknown = field(999, 'what is this');
const badName = Buffer.from([0xff, 0xfe]);

/** What protobufjs alone loses when it encodes again: each inside a node, and beside nodes. */
const untidy: readonly (readonly [string, Buffer])[] = [
  [
    '#6 unknown fields',
    model(unknown, node('Relu', ['x'], ['y'], unknown, int(998, 3)), unknown, input('x'), output('y')),
  ],
  ['#6 fields out of order', model(output('y'), input('x'), field(1, field(4, 'Relu'), field(2, 'y'), field(1, 'x')))],
  [
    '#6 repeated singular fields',
    model(
      node('Add', ['x', 'x'], ['y'], field(4, 'Relu'), field(3, 'a'), field(3, 'b')),
      input('x'),
      output('y'),
      field(2, 'g'),
      field(2, 'h'),
    ),
  ],
  [
    '#7 dims packed, float_data unpacked',
    reluModel(
      field(
        5,
        field(1, varint(2), varint(1)),
        int(2, 1),
        Buffer.from([0x25, 0, 0, 128, 63, 0x25, 0, 0, 0, 64]),
        field(8, 'w'),
      ),
    ),
  ],
  [
    '#7 float_data packed in parts',
    reluModel(
      field(5, int(1, 3), int(2, 1), field(4, Buffer.alloc(8)), Buffer.from([0x25, 0, 0, 0, 64]), field(8, 'w')),
    ),
  ],
  [
    'empty strings on the wire',
    model(node('Relu', ['x'], ['y'], field(3, ''), field(7, ''), field(6, '')), input('x'), output('y')),
  ],
  ['groups', model(group, node('Relu', ['x'], ['y'], group), input('x'), output('y'), group)],
  [
    '#8 invalid UTF-8',
    model(node('Relu', ['x'], ['y'], field(3, badName)), input('x'), output('y'), field(2, badName)),
  ],
  [
    'overlong lengths',
    model(
      Buffer.from([0x0a, 0x8c, 0x80, 0x00]),
      field(1, 'x'),
      field(2, 'y'),
      field(4, 'Relu'),
      input('x'),
      output('y'),
    ),
  ],
];

describe('an untidy model', () => {
  test.each(untidy)('%s: comes back bit for bit', (_, bytes) => {
    const opened = decodeModel(bytes);
    expect(opened.graph.nodes[0]?.opType).toBe('Relu');
    expect(Buffer.from(encodeModel(opened))).toEqual(bytes);
    expect(Buffer.from(encodeModel(cloneModel(opened)))).toEqual(bytes);
  });

  test.each(untidy)('%s: comes back bit for bit through the edit path', (name, bytes) => {
    const touched = cloneModel(decodeModel(bytes));
    touch(touched);
    // The length before a node that was edited is written anew, so an overlong one is not kept.
    const expected = name === 'overlong lengths' ? model(node('Relu', ['x'], ['y']), input('x'), output('y')) : bytes;
    expect(Buffer.from(encodeModel(touched))).toEqual(expected);
  });
});

/** Edits every node and takes the edit back. */
function touch(touched: Model): void {
  for (const each of touched.graph.walk()) {
    const [first = ''] = each.inputs;
    each.setInput(0, 'something else');
    each.setInput(0, first);
  }
}

test('#6 the last of repeated singular fields counts; repeated messages are merged, as protobuf says', () => {
  const twoGraphs = Buffer.concat([
    int(1, 3),
    int(1, 8),
    field(8, int(2, 17)),
    field(7, node('Relu', ['x'], ['h']), input('x')),
    field(7, node('Neg', ['h'], ['y']), output('y')),
  ]);
  const opened = decodeModel(twoGraphs);
  expect(opened.irVersion).toBe(8);
  expect(opened.graph.nodes.map(({ opType }) => opType)).toEqual(['Relu', 'Neg']);
  expect(opened.graph.outputs.map(({ name }) => name)).toEqual(['y']);
  expect(Buffer.from(encodeModel(opened))).toEqual(twoGraphs);
  opened.graph.nodes[0]?.setInput(0, 'z');
  const again = decodeModel(encodeModel(opened));
  expect(again.graph.nodes.map(({ inputs }) => inputs)).toEqual([['z'], ['h']]);
});

test('an edited node keeps the names that were not edited, overlong or not UTF-8, as they were', () => {
  const untouched = [Buffer.from([0x0a, 0x81, 0x00, 0x61]), field(1, badName), Buffer.from([0x12, 0x81, 0x00, 0x79])];
  const sum = (first: string) =>
    model(field(1, field(1, first), ...untouched, field(4, 'Sum')), input('x'), output('y'));
  const opened = decodeModel(sum('x'));
  opened.graph.nodes[0]?.setInput(0, 'other');
  expect(Buffer.from(encodeModel(opened))).toEqual(sum('other'));
});

test('an edited node keeps its other fields as they were', () => {
  const before: readonly Part[] = [
    field(3, 'name'),
    unknown,
    field(5, field(1, 'alpha'), Buffer.from([0x15, 0, 0, 0, 63]), int(20, 1), unknown),
  ];
  const opened = decodeModel(model(node('Elu', ['x'], ['y'], ...before), input('x'), output('y')));
  opened.graph.nodes[0]?.setInput(0, 'other');
  expect(Buffer.from(encodeModel(opened))).toEqual(
    model(node('Elu', ['other'], ['y'], ...before), input('x'), output('y')),
  );
});

describe('#8 names that are no identifiers', () => {
  const long = 'n'.repeat(1024 * 1024);
  test.each([
    ['a NUL', 'a\u0000b'],
    ['1 MB', long],
    ['__proto__', '__proto__'],
    ['constructor', 'constructor'],
  ])('%s is kept and is a name like others', (_, name) => {
    const bytes = model(
      node('Add', ['x', name], [`${name}2`], field(3, name)),
      node('Relu', [`${name}2`], ['y']),
      tensor(name, [1]),
      input('x'),
      output('y'),
    );
    const opened = decodeModel(bytes);
    opened.setMetadata(name, 'polluted');
    opened.graph.nodes[0]?.setAttribute(name, { string: 'polluted' });
    const again = decodeModel(encodeModel(opened));
    expect(again.metadata.get(name)).toBe('polluted');
    expect(again.graph.nodes[0]?.string(name, '')).toBe('polluted');
    expect(again.graph.constant(name)?.dims).toEqual([1]);
    expect(again.graph.producer(`${name}2`)?.name).toBe(name);
    expect(({} as { polluted?: unknown; x?: unknown }).x).toBeUndefined();
    expect(Object.keys(Object.prototype)).toEqual([]);
  });
});
