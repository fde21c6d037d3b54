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

test('an export for transformers.js has one file that is called after its weights; of two, one must be named', async () => {
  const folder = join(dir, 'quantized');
  await mkdir(join(folder, 'onnx'), { recursive: true });
  await writeFile(join(folder, 'onnx/model_q4.onnx'), '');
  expect(await openModelFolder(folder)).toMatchObject({ onnxPath: join(folder, 'onnx/model_q4.onnx') });
  await writeFile(join(folder, 'onnx/model_quantized.onnx'), '');
  await expect(openModelFolder(folder)).rejects.toMatchObject({
    code: 'checkpoint/no-model',
    message: expect.stringContaining('onnx/model_q4.onnx, onnx/model_quantized.onnx'),
  });
});

test('a folder without a model, or nothing at all, is refused', async () => {
  await mkdir(join(dir, 'empty'));
  await expect(openModelFolder(join(dir, 'empty'))).rejects.toMatchObject({ code: 'checkpoint/no-model' });
  await expect(openModelFolder(join(dir, 'nowhere'))).rejects.toMatchObject({ code: 'checkpoint/missing' });
});
