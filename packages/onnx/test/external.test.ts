import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { link, mkdir, mkdtemp, readFile, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { checkModel, decodeModel, encodeModel, floats, type Model, openModel, writeModel } from '../src/index.ts';
import { expectCode, expectCodeAsync, field, int, reluModel, tensor } from './raw.ts';

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'flotilla-onnx-'));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

const weights = Buffer.from(Float32Array.of(1, 2, 3, 4).buffer);

/** A model whose one weight of 4 floats lies outside. */
function externalModel(entries: readonly (readonly [string, string])[], name = 'w'): Buffer {
  return reluModel(externalTensor(entries, name));
}

function externalTensor(entries: readonly (readonly [string, string])[], name: string): Buffer {
  return tensor(
    name,
    [4],
    int(2, 1),
    ...entries.map(([key, value]) => field(13, field(1, key), field(2, value))),
    int(14, 1),
  );
}

async function open(entries: readonly (readonly [string, string])[]): Promise<Model> {
  const path = join(dir, 'model.onnx');
  await writeFile(path, externalModel(entries));
  return openModel(path);
}

const read = (model: Model) => {
  const [found] = model.graph.initializers.values();
  return found === undefined ? [] : [...floats(found)];
};

describe('#26 a location that is no plain path inside the folder is refused as text', () => {
  test.each([
    '../x',
    '/etc/passwd',
    'a/../../x',
    'a/..',
    'C:\\x',
    'C:x',
    '..\\x',
    '..%2f',
    '%2e%2e/x',
    '',
    'a\u0000b',
    'file:///etc/passwd',
    'https://example.org/x',
    './x',
    'a//x',
  ])('%j', async (location) => {
    await expectCodeAsync(open([['location', location]]), 'onnx/external-path', /"w" lies in/);
  });

  test('no location at all', () => expectCodeAsync(open([['offset', '0']]), 'onnx/external-key'));
});

test('data beside the model, and in a folder below it', async () => {
  await mkdir(join(dir, 'sub'));
  await writeFile(join(dir, 'sub', 'w.bin'), Buffer.concat([Buffer.alloc(8), weights]));
  const opened = await open([
    ['location', 'sub/w.bin'],
    ['offset', '8'],
    ['length', '16'],
  ]);
  expect(read(opened)).toEqual([1, 2, 3, 4]);
  checkModel(opened);
  // Inline, it needs no file.
  expect(read(decodeModel(encodeModel(opened)))).toEqual([1, 2, 3, 4]);
});

test('a model that came as bytes has no folder unless it is told', async () => {
  await writeFile(join(dir, 'w.bin'), weights);
  const bytes = externalModel([['location', 'w.bin']]);
  expectCode(() => read(decodeModel(bytes)), 'onnx/external-file', /no folder/);
  expect(read(decodeModel(bytes, { baseDir: dir }))).toEqual([1, 2, 3, 4]);
});

describe('#27 only a regular file with one name is read', () => {
  const refused = async (location: string, message: RegExp) => {
    const opened = await open([['location', location]]);
    expectCode(() => read(opened), 'onnx/external-file', message);
    expectCode(() => checkModel(opened), 'onnx/external-file', message);
  };

  test('a missing file', () => refused('none.bin', /does not exist/));
  test('a symbolic link', async () => {
    await writeFile(join(dir, 'real.bin'), weights);
    await symlink('real.bin', join(dir, 'w.bin'));
    await refused('w.bin', /symbolic link/);
  });
  test('a folder that is a symbolic link', async () => {
    await mkdir(join(dir, 'real'));
    await writeFile(join(dir, 'real', 'w.bin'), weights);
    await symlink('real', join(dir, 'sub'));
    await refused('sub/w.bin', /"sub" is no folder/);
  });
  test('a hard link', async () => {
    await writeFile(join(dir, 'real.bin'), weights);
    await link(join(dir, 'real.bin'), join(dir, 'w.bin'));
    await refused('w.bin', /2 names/);
  });
  test('a pipe, without waiting for it', async () => {
    execFileSync('mkfifo', [join(dir, 'w.bin')]);
    await refused('w.bin', /not a regular file/);
  });
  test('a device and a folder', async () => {
    await mkdir(join(dir, 'sub'));
    await refused('sub', /not a regular file/);
    try {
      execFileSync('mknod', [join(dir, 'zero'), 'c', '1', '5'], { stdio: 'ignore' });
    } catch {
      return; // Only root may make one.
    }
    await refused('zero', /not a regular file/);
  });
});

describe('#28 a range that is no plain number, or outside the file, is refused', () => {
  test.each([
    ['offset', '-1'],
    ['offset', '1e3'],
    ['offset', '0x10'],
    ['offset', ' 4'],
    ['offset', '04'],
    ['offset', ''],
    ['offset', '99999999999999999999'],
    ['length', '-16'],
    ['length', String(2n ** 60n)],
    ['length', '15'],
  ])('%s %j, as text', (key, value) =>
    expectCodeAsync(
      open([
        ['location', 'w.bin'],
        [key, value],
      ]),
      'onnx/external-range',
    ),
  );

  test.each(['1', '1000000000000'])('offset %s, past the end', async (offset) => {
    await writeFile(join(dir, 'w.bin'), weights);
    const opened = await open([
      ['location', 'w.bin'],
      ['offset', offset],
    ]);
    expectCode(() => read(opened), 'onnx/external-range', /which has 16/);
    expectCode(() => checkModel(opened), 'onnx/external-range');
  });

  test('overlapping tensors may be read, and are written apart', async () => {
    await writeFile(join(dir, 'w.bin'), Buffer.concat([weights, weights]));
    const path = join(dir, 'model.onnx');
    const entries = (offset: string) =>
      [
        ['location', 'w.bin'],
        ['offset', offset],
      ] as const;
    await writeFile(path, reluModel(externalTensor(entries('0'), 'a'), externalTensor(entries('8'), 'b')));
    const opened = await openModel(path);
    const values = (from: Model) => [...from.graph.initializers.values()].map((each) => [...floats(each)]);
    expect(values(opened)).toEqual([
      [1, 2, 3, 4],
      [3, 4, 1, 2],
    ]);
    await writeModel(opened, join(dir, 'apart.onnx'), { externalData: { location: 'apart.bin', minBytes: 1 } });
    expect((await stat(join(dir, 'apart.bin'))).size).toBe(4096 + 16);
    expect(values(await openModel(join(dir, 'apart.onnx')))).toEqual(values(opened));
  });
});

describe('#29 keys', () => {
  test('a foreign key is ignored with a warning', async () => {
    await writeFile(join(dir, 'w.bin'), weights);
    const opened = await open([
      ['location', 'w.bin'],
      ['__class__', 'x'],
      ['__proto__', 'y'],
    ]);
    expect(read(opened)).toEqual([1, 2, 3, 4]);
    expect(opened.warnings.join()).toMatch(/"__class__" is unknown.*"__proto__" is unknown/);
    expect(({} as { x?: unknown }).x).toBeUndefined();
  });
  test('a key that stands twice is refused', () =>
    expectCodeAsync(
      open([
        ['location', 'a'],
        ['location', 'b'],
      ]),
      'onnx/external-key',
      /twice/,
    ));
  test('a wrong checksum is refused, the right one passes', async () => {
    await writeFile(join(dir, 'w.bin'), weights);
    const wrong = await open([
      ['location', 'w.bin'],
      ['checksum', 'a'.repeat(40)],
    ]);
    expectCode(() => read(wrong), 'onnx/external-checksum');
    const sum = createHash('sha1').update(weights).digest('hex');
    expect(
      read(
        await open([
          ['location', 'w.bin'],
          ['checksum', sum],
        ]),
      ),
    ).toEqual([1, 2, 3, 4]);
  });
});

test('a file that changed since it was first read is refused', async () => {
  await writeFile(join(dir, 'w.bin'), weights);
  const opened = await open([['location', 'w.bin']]);
  expect(read(opened)).toEqual([1, 2, 3, 4]);
  await writeFile(join(dir, 'new.bin'), weights);
  await rename(join(dir, 'new.bin'), join(dir, 'w.bin'));
  expectCode(() => read(opened), 'onnx/changed');
});

test('#30 a file swapped for a link while it is read: the same bytes or a refusal, in 10,000 tries', async () => {
  await mkdir(join(dir, 'sub'));
  await writeFile(join(dir, 'secret.bin'), Buffer.from(Float32Array.of(9, 9, 9, 9).buffer));
  await writeFile(join(dir, 'sub', 'w.bin'), weights);
  const bytes = externalModel([['location', 'sub/w.bin']]);
  const swapper = spawn(process.execPath, [fileURLToPath(new URL('swap-files.mjs', import.meta.url)), dir]);
  await new Promise((resolve) => swapper.stdout.once('data', resolve));
  const outcomes = { same: 0, refused: 0 };
  for (let i = 0; i < 10_000; i++) {
    try {
      // A model that has read nothing yet, and so knows the file by nothing.
      expect(read(decodeModel(bytes, { baseDir: dir }))).toEqual([1, 2, 3, 4]);
      outcomes.same++;
    } catch (error) {
      expect(error).toMatchObject({ name: 'OnnxError' });
      outcomes.refused++;
    }
  }
  swapper.kill();
  expect(outcomes.same + outcomes.refused).toBe(10_000);
  // Both happened, or the swapping did nothing.
  expect(outcomes.refused).toBeGreaterThan(10);
  expect(outcomes.same).toBeGreaterThan(10);
});

test('a data file is copied along to another folder, and left where it is in its own', async () => {
  await writeFile(join(dir, 'w.bin'), weights);
  const opened = await open([['location', 'w.bin']]);
  const before = await readFile(join(dir, 'model.onnx'));
  await writeModel(opened, join(dir, 'copy.onnx'));
  expect(await readFile(join(dir, 'copy.onnx'))).toEqual(before);
  await mkdir(join(dir, 'out'));
  await writeModel(opened, join(dir, 'out', 'model.onnx'));
  expect(read(await openModel(join(dir, 'out', 'model.onnx')))).toEqual([1, 2, 3, 4]);
  await writeModel(opened, join(dir, 'out', 'inline.onnx'), { externalData: 'inline' });
  await rm(join(dir, 'out', 'w.bin'));
  expect(read(await openModel(join(dir, 'out', 'inline.onnx')))).toEqual([1, 2, 3, 4]);
});
