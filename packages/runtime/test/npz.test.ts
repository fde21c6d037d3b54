import { mkdtemp, readdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32, deflateRawSync } from 'node:zlib';
import { decodeNpz, encodeNpz, readNpy, readNpz, type Tensors, writeNpy, writeNpz } from '@flotilla/runtime';
import { expect, test } from 'vitest';

const tensors: Tensors = {
  image: { dtype: 'float32', dims: [2, 3], data: Float32Array.of(1, 2, 3, 4, 5, 6) },
  ids: { dtype: 'int64', dims: [2], data: BigInt64Array.of(1n, -(2n ** 62n)) },
  mask: { dtype: 'bool', dims: [3], data: Uint8Array.of(1, 0, 1) },
  half: { dtype: 'float16', dims: [1], data: Uint16Array.of(0x3c00) },
  scalar: { dtype: 'float64', dims: [], data: Float64Array.of(Math.PI) },
  none: { dtype: 'int8', dims: [0, 4], data: new Int8Array(0) },
  ['__proto__']: { dtype: 'uint8', dims: [1], data: Uint8Array.of(7) },
};

test('tensors come back as they were, and give the same bytes each time', async () => {
  const path = join(await mkdtemp(join(tmpdir(), 'npz-')), 'x.npz');
  await writeNpz(path, tensors);
  const back = await readNpz(path);
  expect(Object.entries(back)).toEqual(Object.entries(tensors));
  expect(encodeNpz(back)).toEqual(encodeNpz(tensors));
  expect(await readdir(join(path, '..'))).toEqual(['x.npz']);
});

function npy(header: string, data: Uint8Array, version = 1): Uint8Array {
  const length = Buffer.alloc(version === 1 ? 2 : 4);
  if (version === 1) length.writeUInt16LE(header.length);
  else length.writeUInt32LE(header.length);
  return Buffer.concat([Buffer.from('\x93NUMPY', 'latin1'), Buffer.of(version, 0), length, Buffer.from(header), data]);
}

test('big-endian, Fortran order, strings, versions 2 and 3 are read', () => {
  expect(
    readNpy(npy("{'descr': '>f4', 'fortran_order': False, 'shape': (1,), }", Buffer.of(0x3f, 0x80, 0, 0), 2)),
  ).toEqual({ dtype: 'float32', dims: [1], data: Float32Array.of(1) });
  const columns = Int8Array.of(1, 4, 2, 5, 3, 6);
  expect(
    readNpy(npy("{'descr': '|i1', 'fortran_order': True, 'shape': (2, 3), }", new Uint8Array(columns.buffer))),
  ).toEqual({ dtype: 'int8', dims: [2, 3], data: Int8Array.of(1, 2, 3, 4, 5, 6) });
  const text = Buffer.from(Uint32Array.from('né\0a\0\0', (letter) => letter.codePointAt(0) ?? 0).buffer);
  expect(readNpy(npy("{'shape': (2,), 'descr': '<U3', 'fortran_order': False}", text, 3))).toEqual({
    dtype: 'string',
    dims: [2],
    data: ['né', 'a'],
  });
});

const good = "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }";
test.each<[string, Uint8Array]>([
  ['objects to be unpickled', npy(good.replace('<f4', '|O'), Buffer.alloc(4))],
  ['complex numbers', npy(good.replace('<f4', '<c8'), Buffer.alloc(8))],
  ['a record', npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", Buffer.alloc(4))],
  ['too few bytes', npy(good, Buffer.alloc(3))],
  ['too many bytes', npy(good, Buffer.alloc(5))],
  ['a shape of 2^60', npy(good.replace('(1,)', `(${2 ** 60},)`), Buffer.alloc(4))],
  ['a negative shape', npy(good.replace('(1,)', '(-1,)'), Buffer.alloc(4))],
  ['code in its header', npy("{'descr': '<f4', 'fortran_order': False, 'shape': print(1), }", Buffer.alloc(4))],
  ['a key twice', npy(good.replace('}', "'shape': (1,)}"), Buffer.alloc(4))],
  ['nothing', new Uint8Array(0)],
])('an array of %s is refused', (_, bytes) => {
  expect(() => readNpy(bytes)).toThrow(expect.objectContaining({ code: 'runtime/npz' }));
});

/** One entry, every field of which a test can falsify. */
function zip(fields: {
  method?: number;
  raw?: Uint8Array;
  size?: number;
  crc?: number;
  flags?: number;
  at?: number;
}): Uint8Array {
  const content = writeNpy({ dtype: 'uint8', dims: [1], data: Uint8Array.of(1) });
  const { method = 8, raw = deflateRawSync(content), size = content.length, crc = crc32(content) } = fields;
  const name = Buffer.from('x.npy');
  const local = Buffer.alloc(30);
  local.writeUInt32LE(0x04034b50);
  local.writeUInt16LE(name.length, 26);
  const entry = Buffer.alloc(46);
  entry.writeUInt32LE(0x02014b50);
  entry.writeUInt16LE(fields.flags ?? 0, 8);
  entry.writeUInt16LE(method, 10);
  entry.writeUInt32LE(crc >>> 0, 16);
  entry.writeUInt32LE(raw.length, 20);
  entry.writeUInt32LE(size, 24);
  entry.writeUInt16LE(name.length, 28);
  entry.writeUInt32LE(fields.at ?? 0, 42);
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50);
  end.writeUInt16LE(1, 10);
  end.writeUInt32LE(30 + name.length + raw.length, 16);
  return Buffer.concat([local, name, raw, entry, name, end]);
}

test('a deflated entry is read; #39 one that inflates past its declared size is refused', () => {
  expect(decodeNpz(zip({}))['x']?.data).toEqual(Uint8Array.of(1));
  const bomb = zip({ raw: deflateRawSync(Buffer.alloc(100e6)), size: 100 });
  const before = process.memoryUsage.rss();
  expect(() => decodeNpz(bomb)).toThrow(expect.objectContaining({ code: 'runtime/npz' }));
  expect(process.memoryUsage.rss() - before).toBeLessThan(50e6);
});

test.each<[string, Uint8Array]>([
  ['a wrong checksum', zip({ crc: 1 })],
  ['an unknown method', zip({ method: 93 })],
  ['encryption', zip({ flags: 1 })],
  ['a local header elsewhere', zip({ at: 3 })],
  ['a local header past the end', zip({ at: 0xffff_fff0 })],
  ['a declared size of 4 GB', zip({ size: 0xffff_ffff })],
  ['deflated rubbish', zip({ raw: Buffer.from('rubbish') })],
  ['half of it missing', zip({}).subarray(0, 60)],
  ['half a directory', Buffer.concat([zip({}).subarray(0, 120), zip({}).subarray(-22)])],
  ['text', Buffer.from('hello')],
])('an archive with %s is refused, and the file named', async (_, bytes) => {
  const path = join(await mkdtemp(join(tmpdir(), 'npz-')), 'bad.npz');
  await writeFile(path, bytes);
  await expect(readNpz(path)).rejects.toMatchObject({
    code: 'runtime/npz',
    message: expect.stringContaining('bad.npz'),
  });
});

test('a file that is not there is named', async () => {
  await expect(readNpz('/nowhere/x.npz')).rejects.toMatchObject({
    code: 'runtime/npz',
    message: '/nowhere/x.npz: ENOENT',
  });
});

test('every prefix of an archive is refused', () => {
  const file = encodeNpz(tensors);
  for (let length = 0; length < file.length; length++)
    expect(() => decodeNpz(file.subarray(0, length))).toThrow(expect.objectContaining({ code: 'runtime/npz' }));
});
