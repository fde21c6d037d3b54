import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openModelFolder } from '@flotilla/checkpoint';
import { afterAll, beforeAll, expect, test } from 'vitest';

let dir = '';
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'folder-'));
});
afterAll(() => rm(dir, { recursive: true }));

test.each(['test/fixtures/models/wordnet-llama-4m', 'test/fixtures/models/wordnet-llama-4m/model.onnx'])(
  '%s is a text model with its tokenizer',
  async (path) => {
    const folder = await openModelFolder(path);
    expect(folder).toMatchObject({ name: 'wordnet-llama-4m', isText: true });
    expect(folder.onnxPath).toBe('test/fixtures/models/wordnet-llama-4m/model.onnx');
    expect(folder.files.map((file) => file.path)).toEqual([
      'tokenizer.json',
      'tokenizer_config.json',
      'config.json',
      'generation_config.json',
    ]);
  },
);

test('onnx/model.onnx is found, and a bare file has no companions', async () => {
  await mkdir(join(dir, 'export/onnx'), { recursive: true });
  await writeFile(join(dir, 'export/config.json'), '{}');
  await writeFile(join(dir, 'export/onnx/model.onnx'), '');
  expect(await openModelFolder(join(dir, 'export'))).toMatchObject({ name: 'export', isText: false });
  await writeFile(join(dir, 'rec.onnx'), '');
  expect(await openModelFolder(join(dir, 'rec.onnx'))).toMatchObject({ name: 'rec', files: [], isText: false });
});

test('a folder without a model, or nothing at all, is refused', async () => {
  await expect(openModelFolder(dir)).rejects.toMatchObject({ code: 'checkpoint/no-model' });
  await expect(openModelFolder(join(dir, 'nowhere'))).rejects.toMatchObject({ code: 'checkpoint/missing' });
});
