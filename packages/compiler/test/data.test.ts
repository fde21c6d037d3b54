import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { encodeNpz, type TensorValue, writeNpy } from '@flotilla/runtime';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Sample } from '../src/data/data-set.ts';
import { openData } from '../src/data/open-data.ts';

const inputs = [{ name: 'x', dtype: 'float32', dims: [1, 'width'] }];
let dir = '';
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'data-'));
  for (const [i, width] of [3, 5, 4].entries()) {
    const label: TensorValue = { dtype: 'int64', dims: [1], data: BigInt64Array.of(BigInt(i)) };
    await writeFile(join(dir, `s${i}.npz`), encodeNpz({ x: floats([1, width], i), label }));
  }
});
afterAll(() => rm(dir, { recursive: true }));

test('a folder of .npz, in order of name, of any width, with labels apart', async () => {
  const data = await openData(dir, { inputs });
  expect(data.length).toBe(3);
  const samples = await read(data);
  expect(samples.map((sample) => sample.name)).toEqual(['s0.npz', 's1.npz', 's2.npz']);
  expect(samples[1]?.inputs['x']?.dims).toEqual([1, 5]);
  expect(samples[2]?.label).toMatchObject({ dtype: 'int64', data: BigInt64Array.of(2n) });
  expect(await read(data)).toHaveLength(3); // from the first one again
});

test('`:N` takes the first N, of a glob too', async () => {
  expect((await read(await openData(`${dir}:2`, { inputs }))).map(({ name }) => name)).toEqual(['s0.npz', 's1.npz']);
  expect((await read(await openData(join(dir, 's*.npz:1'), { inputs }))).map(({ name }) => name)).toEqual(['s0.npz']);
  expect((await read(await openData(join(dir, '*2.npz'), { inputs }))).map(({ name }) => name)).toEqual(['s2.npz']);
  await expect(openData(`${dir}:0`, { inputs })).rejects.toThrow('asks for no samples');
});

test('a .npy is the one input', async () => {
  await writeFile(join(dir, 'one.npy'), writeNpy(floats([1, 2], 7)));
  const [sample] = await read(await openData(join(dir, 'one.npy'), { inputs }));
  expect(sample?.inputs['x']).toEqual(floats([1, 2], 7));
  await rm(join(dir, 'one.npy'));
});

describe('#23 samples that do not fit are refused, with the file and the array', () => {
  test.each<[string, { [name: string]: TensorValue }, string]>([
    [
      'the wrong type',
      { x: { dtype: 'int32', dims: [1, 2], data: Int32Array.of(1, 2) } },
      'x is int32, the model takes float32',
    ],
    ['the wrong rank', { x: floats([2], 0) }, 'x is [2], the model takes [1, width]'],
    ['the wrong length', { x: floats([2, 2], 0) }, 'x is [2, 2]'],
    ['NaN', { x: floats([1, 2], Number.NaN) }, 'x[0] is not a finite number'],
    ['another name', { y: floats([1, 2], 0) }, 'no array x; there are y'],
    ['one array too many', { x: floats([1, 2], 0), y: floats([1], 0) }, 'the model has no input y'],
  ])('%s', async (_, arrays, message) => {
    const path = join(dir, 'bad.npz');
    await writeFile(path, encodeNpz(arrays));
    const data = await openData(path, { inputs });
    await expect(read(data)).rejects.toMatchObject({
      code: 'compiler/data',
      message: expect.stringContaining(message) as string,
      where: path,
    });
    await rm(path);
  });
  test('a file that is no .npz', async () => {
    await writeFile(join(dir, 'bad.npz'), 'PK nothing');
    await expect(read(await openData(join(dir, 'bad.npz'), { inputs }))).rejects.toMatchObject({
      code: 'compiler/data',
    });
    await rm(join(dir, 'bad.npz'));
  });
  test('nothing there, an empty folder, a form that is not read', async () => {
    await expect(openData(join(dir, 'nowhere'), { inputs })).rejects.toThrow('no such data');
    await expect(openData(join(dir, 'q*.npz'), { inputs })).rejects.toThrow('holds no .npz or .npy');
    await writeFile(join(dir, 'a.csv'), '');
    await expect(openData(join(dir, 'a.csv'), { inputs })).rejects.toThrow('a data set is');
  });
});

describe('texts', () => {
  test('.jsonl, a .json array and .txt', async () => {
    const jsonl = join(dir, 'a.jsonl');
    await writeFile(jsonl, '{"prompt":"p =>","completion":"c"}\n\n{"text":"t"}\n');
    expect(await readTexts(jsonl)).toEqual([
      ['p =>', 'c'],
      ['t', undefined],
    ]);
    await writeFile(join(dir, 'a.json'), '[{"prompt":"p","completion":"c"}]');
    expect(await readTexts(join(dir, 'a.json'))).toEqual([['p', 'c']]);
    await writeFile(join(dir, 'a.txt'), 'one\r\n\ntwo\nthree');
    expect(await readTexts(`${join(dir, 'a.txt')}:2`)).toEqual([
      ['one', undefined],
      ['two', undefined],
    ]);
  });
  test('#23 a line that is no JSON, or has no text, is named by its number; no text at all is refused', async () => {
    await writeFile(join(dir, 'b.jsonl'), '{"text":"t"}\n{"text":\n');
    await expect(openData(join(dir, 'b.jsonl'), { inputs })).rejects.toThrow('b.jsonl:2 is not JSON');
    await writeFile(join(dir, 'b.jsonl'), '{"prompt":"p"}');
    await expect(openData(join(dir, 'b.jsonl'), { inputs })).rejects.toThrow('b.jsonl:1 has neither');
    await writeFile(join(dir, 'b.txt'), '\n\n');
    await expect(openData(join(dir, 'b.txt'), { inputs })).rejects.toThrow('holds no text');
  });
});

describe('modules', () => {
  test('a generator function is read from the start each time', async () => {
    const path = join(dir, 'gen.mjs');
    await writeFile(
      path,
      `export default async function* () { for (let i = 0; i < 3; i++)
         yield { inputs: { x: { dtype: 'float32', dims: [1, 1], data: Float32Array.of(i) } }, label: i } }`,
    );
    const data = await openData(`${path}:2`, { inputs });
    expect((await read(data)).map(({ label }) => label)).toEqual([0, 1]);
    expect((await read(data)).map(({ label }) => label)).toEqual([0, 1]);
  });
  test('#23 a module that throws, gives nothing or something else is refused', async () => {
    await writeFile(join(dir, 'throws.mjs'), 'throw new Error("no disk")');
    await expect(openData(join(dir, 'throws.mjs'), { inputs })).rejects.toThrow('cannot be loaded: no disk');
    await writeFile(join(dir, 'empty.mjs'), 'export default []');
    await expect(read(await openData(join(dir, 'empty.mjs'), { inputs }))).rejects.toThrow('gave no sample');
    await writeFile(join(dir, 'seven.mjs'), 'export default 7');
    await expect(read(await openData(join(dir, 'seven.mjs'), { inputs }))).rejects.toThrow('not an iterable');
    await writeFile(join(dir, 'late.mjs'), 'export default async function* () { throw new Error("gone") }');
    await expect(read(await openData(join(dir, 'late.mjs'), { inputs }))).rejects.toMatchObject({
      code: 'compiler/data',
      message: expect.stringMatching(/late\.mjs threw: gone$/),
    });
  });
});

async function read(data: Awaited<ReturnType<typeof openData>>): Promise<Sample[]> {
  if (data.kind !== 'tensor') throw new Error('texts');
  const samples: Sample[] = [];
  for await (const sample of data.samples()) samples.push(sample);
  return samples;
}

async function readTexts(path: string): Promise<(string | undefined)[][]> {
  const data = await openData(path, { inputs });
  if (data.kind !== 'text') throw new Error('no texts');
  const texts: (string | undefined)[][] = [];
  for await (const { text, completion } of data.texts()) texts.push([text, completion]);
  return texts;
}

function floats(dims: number[], first: number): TensorValue {
  const data = new Float32Array(dims.reduce((a, b) => a * b, 1)).fill(first);
  return { dtype: 'float32', dims, data };
}
