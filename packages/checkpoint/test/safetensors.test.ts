import { execFileSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openSafetensors } from '@flotilla/checkpoint';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

let dir = '';
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'safetensors-'));
});
afterAll(() => rm(dir, { recursive: true }));

const model = 'test/fixtures/models/wordnet-llama-4m/model.safetensors';

test('a real file: names, shapes, fp16 widened, read by range', async () => {
  const file = await openSafetensors(model);
  expect(file.tensors.get('model.embed_tokens.weight')).toMatchObject({ dtype: 'F16', shape: [2048, 256] });
  expect([...file.tensors.values()].reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0)).toBe(
    4_000_000,
  );
  const norm = await file.floats('model.norm.weight');
  expect(norm).toHaveLength(256);
  expect(norm.every((value) => value > 0 && value < 10)).toBe(true);
  await expect(file.read('nothing')).rejects.toMatchObject({ code: 'checkpoint/missing' });
  await file.close();
});

describe('#32 the header', () => {
  const cases: [string, Uint8Array, string][] = [
    ['an empty file', new Uint8Array(), 'not-safetensors'],
    ['7 bytes', new Uint8Array(7), 'not-safetensors'],
    ['length 0', new Uint8Array(8), 'not-safetensors'],
    ['longer than the file', withLength(1000n, '{}'), 'header-length'],
    ['over 100 MB', withLength(100_000_001n, '{}'), 'header-length'],
    ['0xFFFFFFFFFFFFFFFF', withLength(0xffffffffffffffffn, '{}'), 'header-length'],
    ['not UTF-8', build(Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d)), 'not-safetensors'],
    ['not JSON', build('{"a":'), 'not-safetensors'],
    ['does not begin with {', build(' {}'), 'not-safetensors'],
    ['an array', build('[]'), 'not-safetensors'],
    ['metadata that is not strings', build('{"__metadata__":{"a":1}}'), 'tensor-info'],
  ];
  test.each(cases)('#32 %s is refused', async (_, bytes, code) => {
    await expect(open(bytes)).rejects.toMatchObject({ code: `checkpoint/${code}` });
  });
  test('#32 padding spaces are kept', async () => {
    const file = await open(build(`{"a":${entry([2], 0, 8)}}        `, 8));
    expect([...file.tensors.keys()]).toEqual(['a']);
    await file.close();
  });
});

describe('#33 the entries', () => {
  const huge = '18446744073709551614';
  const cases: [string, string, number, string][] = [
    ['overlapping', `{"a":${entry([2], 0, 8)},"b":${entry([2], 4, 12)}}`, 12, 'offsets'],
    ['a gap', `{"a":${entry([2], 0, 8)},"b":${entry([2], 12, 20)}}`, 20, 'offsets'],
    ['a gap before the first', `{"a":${entry([2], 4, 12)}}`, 12, 'offsets'],
    ['trailing bytes', `{"a":${entry([2], 0, 8)}}`, 9, 'offsets'],
    ['cut off', `{"a":${entry([2], 0, 8)}}`, 7, 'offsets'],
    ['shape product past 2⁶⁴', `{"a":{"dtype":"U8","shape":[2,${huge}],"data_offsets":[0,4]}}`, 4, 'tensor-info'],
    [
      'product that rounds to the right one',
      `{"a":{"dtype":"U8","shape":[9007199254740991,9007199254740991],"data_offsets":[0,0]}}`,
      0,
      'tensor-info',
    ],
    ['shape and offsets that differ', `{"a":${entry([3], 0, 8)}}`, 8, 'tensor-info'],
    ['negative dimension', `{"a":${entry([-2], 0, 8)}}`, 8, 'tensor-info'],
    ['fraction', `{"a":${entry([0.5], 0, 2)}}`, 2, 'tensor-info'],
    ['offsets the wrong way round', `{"a":${entry([2], 8, 0)}}`, 8, 'tensor-info'],
    ['no shape', '{"a":{"dtype":"F32","data_offsets":[0,0]}}', 0, 'tensor-info'],
    ['not an object', '{"a":7}', 0, 'tensor-info'],
    ['unknown dtype', '{"a":{"dtype":"F31","shape":[2],"data_offsets":[0,8]}}', 8, 'dtype'],
    ['a name twice', `{"a":${entry([2], 0, 8)},"b":${entry([0], 8, 8)},"a":${entry([2], 0, 8)}}`, 8, 'duplicate'],
    ['a name twice, spelt differently', `{"a":${entry([2], 0, 8)},"\\u0061":${entry([2], 0, 8)}}`, 8, 'duplicate'],
    ['a field twice', '{"a":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}}', 1, 'duplicate'],
  ];
  test.each(cases)('#33 %s: refused', async (_, header, dataBytes, code) => {
    await expect(open(build(header, dataBytes))).rejects.toMatchObject({ code: `checkpoint/${code}` });
  });
  test('#33 empty tensors, and names that objects have, are taken', async () => {
    const file = await open(build(`{"__proto__":${entry([0], 0, 0)},"constructor":${entry([1], 0, 4)}}`, 4));
    expect([...file.tensors.keys()]).toEqual(['__proto__', 'constructor']);
    expect(({} as { dtype?: string }).dtype).toBeUndefined();
    expect(await file.floats('__proto__')).toHaveLength(0);
    await file.close();
  });
  test('#33 100,000 entries take time that grows with their number, not its square', async () => {
    const cpuMicros = async (count: number) => {
      const entries = Array.from({ length: count }, (_, i) => `"t${i}":${entry([1], i * 4, i * 4 + 4)}`);
      const bytes = build(`{${entries.join(',')}}`, count * 4);
      const before = process.cpuUsage();
      const file = await open(bytes);
      const { user } = process.cpuUsage(before);
      expect(file.tensors.size).toBe(count);
      await file.close();
      return user;
    };
    // The best of several, in turns: other work on the machine only ever adds. A square would give 16.
    const times: [number, number][] = [];
    for (let turn = 0; turn < 3; turn++) times.push([await cpuMicros(25_000), await cpuMicros(100_000)]);
    const [quarter, whole] = [0, 1].map((which) => Math.min(...times.map((pair) => pair[which] ?? 0)));
    expect((whole ?? 0) / (quarter ?? 0)).toBeLessThan(10);
  }, 90_000);
});

test('#33 a FIFO in the file’s place is refused and does not hang', async () => {
  const path = join(dir, 'fifo');
  execFileSync('mkfifo', [path]);
  await expect(openSafetensors(path)).rejects.toMatchObject({ code: 'checkpoint/not-safetensors' });
});

test('integers are not handed out as floats', async () => {
  const file = await open(build('{"a":{"dtype":"I32","shape":[2],"data_offsets":[0,8]}}', 8));
  await expect(file.floats('a')).rejects.toMatchObject({ code: 'checkpoint/dtype' });
  await file.close();
});

let count = 0;
async function open(bytes: Uint8Array): ReturnType<typeof openSafetensors> {
  const path = join(dir, `${count++}.safetensors`);
  await writeFile(path, bytes);
  return openSafetensors(path);
}

function entry(shape: number[], begin: number, end: number): string {
  return JSON.stringify({ dtype: 'F32', shape, data_offsets: [begin, end] });
}

function build(header: string | Uint8Array, dataBytes = 0): Uint8Array {
  const bytes = typeof header === 'string' ? new TextEncoder().encode(header) : header;
  return withLength(BigInt(bytes.length), bytes, dataBytes);
}

function withLength(length: bigint, header: string | Uint8Array, dataBytes = 0): Uint8Array {
  const bytes = typeof header === 'string' ? new TextEncoder().encode(header) : header;
  const file = new Uint8Array(8 + bytes.length + dataBytes);
  new DataView(file.buffer).setBigUint64(0, length, true);
  file.set(bytes, 8);
  return file;
}
