import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decodeModel, encodeModel } from '../src/index.ts';
import { MemorySource } from '../src/source.ts';
import { encodeVarint, scanFields } from '../src/wire.ts';
import { expectCode, field, int, reluModel, varint } from './raw.ts';

const scan = (bytes: Uint8Array) => scanFields(new MemorySource(bytes), 0, bytes.length);

test('the fields of any message are found, whole and in their order', () => {
  const anyField = fc
    .tuple(fc.integer({ min: 1, max: 2 ** 29 - 1 }), fc.constantFrom(0, 1, 2, 5), fc.uint8Array({ maxLength: 300 }))
    .map(([number, wire, content]) => {
      const tag = varint(number * 8 + wire);
      if (wire === 0) return Buffer.concat([tag, encodeVarint(content.length * 977)]);
      if (wire === 2) return Buffer.concat([tag, varint(content.length), content]);
      return Buffer.concat([tag, Buffer.alloc(wire === 1 ? 8 : 4, 7)]);
    });
  fc.assert(
    fc.property(fc.array(anyField, { maxLength: 20 }), (parts) => {
      const fields = scan(Buffer.concat(parts));
      expect(fields.map(({ start, end }) => end - start)).toEqual(parts.map((part) => part.length));
    }),
  );
});

describe('#3 a field that is longer than the file is refused before anything is allocated for it', () => {
  test.each([
    ['one byte more', [...varint(1)]],
    ['2^31 - 1', [...varint(2 ** 31 - 1)]],
    ['2^63', [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01]],
  ])('%s', (_, length) => {
    const before = process.memoryUsage().arrayBuffers;
    expectCode(
      () => decodeModel(Buffer.from([...reluModel(), 0x32, ...length])),
      'onnx/malformed',
      /bytes where 0 are left/,
    );
    expectCode(() => decodeModel(reluModel(Buffer.from([0x52, ...length]))), 'onnx/malformed');
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1e6);
  });
});

test('#4 a varint of 11 bytes is refused', () => {
  const eleven = Buffer.from([0x28, ...new Uint8Array(10).fill(0x80), 0x01]);
  expectCode(() => decodeModel(Buffer.concat([reluModel(), eleven])), 'onnx/malformed', /more than 10 bytes/);
});

test('#4 an overlong varint is kept', () => {
  const name = Buffer.from([0x12, 0x85, 0x00, ...Buffer.from('graph')]);
  const bytes = Buffer.concat([Buffer.from([0x88, 0x00, 0x88, 0x00]), reluModel(name)]);
  const opened = decodeModel(bytes);
  expect(opened.irVersion).toBe(8);
  expect(opened.graph.name).toBe('graph');
  expect(Buffer.from(encodeModel(opened))).toEqual(bytes);
});

describe('#5 what is no protobuf is refused, with its offset', () => {
  test.each([
    ['field number 0', [0x02, 0x00]],
    ['wire type 6', [0x0e, 0x00]],
    ['wire type 7', [0x0f, 0x00]],
    ['an end of a group that never began', [0x0c]],
    ['a group that ends as another', [0x0b, 0x14]],
    ['a group without end', [0x0b, 0x08, 0x01]],
    ['a field number over 2^29', [0xfa, 0xff, 0xff, 0xff, 0xff, 0x01, 0x00]],
  ])('%s', (_, bytes) => {
    expectCode(() => decodeModel(Buffer.concat([reluModel(), Buffer.from(bytes)])), 'onnx/malformed', /at byte \d+/);
    expectCode(() => decodeModel(reluModel(Buffer.from(bytes))), 'onnx/malformed', /at byte \d+/);
  });

  test('groups nested without bound', () => {
    const deep = Buffer.alloc(100_000, 0x0b);
    expectCode(() => decodeModel(Buffer.concat([reluModel(), deep])), 'onnx/too-deep');
  });
});

test('a known field of a foreign wire type is an unknown field, and kept', () => {
  // node as a varint, graph input as fixed32
  const bytes = reluModel(int(1, 5), Buffer.from([0x5d, 1, 2, 3, 4]), field(999, 'x'));
  const opened = decodeModel(bytes);
  expect(opened.graph.nodes.length).toBe(1);
  expect(Buffer.from(encodeModel(opened))).toEqual(bytes);
});
