import { link, lstat, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  buildModel,
  decodeModel,
  encodeModel,
  floats,
  openModel,
  tensorFromFloats,
  tensorInfo,
  writeModel,
} from '../src/index.ts';
import { expectCode, expectCodeAsync, field, input, int, model, node, output, reluModel, tensor } from './raw.ts';

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'flotilla-onnx-'));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

const names = async () => (await readdir(dir)).toSorted();

describe('#31 a target that is a link is refused, and what it points to is left alone', () => {
  test.each(['symbolic', 'hard', 'dangling'])('%s', async (kind) => {
    const victim = join(dir, 'victim');
    const target = join(dir, 'model.onnx');
    if (kind !== 'dangling') await writeFile(victim, 'precious');
    if (kind === 'hard') await link(victim, target);
    else await symlink(victim, target);
    const before = await lstat(target);
    await expectCodeAsync(writeModel(decodeModel(reluModel()), target), 'onnx/write-target', /not written/);
    expect((await lstat(target)).ino).toBe(before.ino);
    expect(await names()).toEqual(kind === 'dangling' ? ['model.onnx'] : ['model.onnx', 'victim']);
    if (kind !== 'dangling') expect(await readFile(victim, 'utf8')).toBe('precious');
  });

  test('so is a data file that is a link', async () => {
    await writeFile(join(dir, 'victim'), 'precious');
    await symlink('victim', join(dir, 'w.bin'));
    const written = writeModel(decodeModel(reluModel(tensor('w', [4]))), join(dir, 'model.onnx'), {
      externalData: { location: 'w.bin', minBytes: 1 },
    });
    await expectCodeAsync(written, 'onnx/write-target');
    expect(await readFile(join(dir, 'victim'), 'utf8')).toBe('precious');
    expect(await names()).toEqual(['victim', 'w.bin']);
  });

  test('and a folder', async () => {
    await mkdir(join(dir, 'model.onnx'));
    await expectCodeAsync(writeModel(decodeModel(reluModel()), join(dir, 'model.onnx')), 'onnx/write-target');
  });
});

test('a model is written over the file it is read from', async () => {
  const path = join(dir, 'model.onnx');
  // Large enough to be read by range while it is written.
  const bytes = reluModel(tensor('w', [400_000], int(2, 1), field(9, Buffer.alloc(1_600_000, 7))));
  await writeFile(path, bytes);
  const opened = await openModel(path);
  opened.graph.addNode({ opType: 'Neg', inputs: ['y'], outputs: ['z'] });
  await writeModel(opened, path);
  const again = await openModel(path);
  expect(again.graph.nodes.map(({ opType }) => opType)).toEqual(['Relu', 'Neg']);
  expect(
    again.graph.initializers
      .get('w')
      ?.bytes()
      .every((byte) => byte === 7),
  ).toBe(true);
  // The first one goes on reading the file it opened.
  expect(opened.graph.initializers.get('w')?.bytes()[5]).toBe(7);
  expect(await names()).toEqual(['model.onnx']);
});

test('what cannot be written leaves nothing behind', async () => {
  const missing = join(dir, 'missing', 'model.onnx');
  await expectCodeAsync(writeModel(decodeModel(reluModel()), missing), 'onnx/write', /ENOENT/);
  // External data that is gone is noticed while the file is being written.
  const external = reluModel(
    tensor('w', [4], int(2, 1), field(13, field(1, 'location'), field(2, 'gone')), int(14, 1)),
  );
  const target = join(dir, 'model.onnx');
  await writeFile(target, 'old');
  const written = writeModel(decodeModel(external, { baseDir: dir }), target, { externalData: 'inline' });
  await expectCodeAsync(written, 'onnx/external-file');
  expect(await readFile(target, 'utf8')).toBe('old');
  expect(await names()).toEqual(['model.onnx']);
});

test('#11 a model over 2 GiB is refused inline and can be written outside', async () => {
  const built = buildModel({
    opset: 17,
    inputs: [tensorInfo('x', 'float32', [1])],
    outputs: [tensorInfo('x', 'float32', [1])],
    nodes: [],
  });
  // One array, shared: the bytes are the caller's, and no page of it is ever touched.
  const data = new Float32Array(2 ** 27);
  for (let i = 0; i < 5; i++) built.graph.addInitializer(`w${i}`, tensorFromFloats([data.length], data));
  expectCode(() => encodeModel(built), 'onnx/too-large', /2 GiB/);
  await expectCodeAsync(writeModel(built, join(dir, 'model.onnx')), 'onnx/too-large');
  expect(await names()).toEqual([]);
});

test('weights of some size go outside, at page offsets; small ones stay', async () => {
  const built = decodeModel(
    model(
      node('Add', ['x', 'b'], ['y']),
      tensor('a', [300]),
      tensor('b', [3]),
      tensor('c', [300]),
      input('x'),
      output('y'),
    ),
  );
  const path = join(dir, 'model.onnx');
  await writeModel(built, path, { externalData: { location: 'weights.bin', minBytes: 1000 } });
  expect((await stat(join(dir, 'weights.bin'))).size).toBe(4096 + 1200);
  expect((await stat(path)).size).toBeLessThan(600);
  const again = await openModel(path);
  const lengths = [...again.graph.initializers.values()].map((each) => [each.name, floats(each).length]);
  expect(lengths).toEqual([
    ['a', 300],
    ['b', 3],
    ['c', 300],
  ]);
  await expectCodeAsync(
    writeModel(built, path, { externalData: { location: '../w', minBytes: 1 } }),
    'onnx/external-path',
  );
  await expectCodeAsync(
    writeModel(built, path, { externalData: { location: 'a/w', minBytes: 1 } }),
    'onnx/external-path',
  );
});
