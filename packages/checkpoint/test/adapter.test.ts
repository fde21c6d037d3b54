import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openAdapter } from '@flotilla/checkpoint';
import { afterAll, beforeAll, expect, test } from 'vitest';

const intents = 'test/fixtures/models/adapters/intents-lora';
let dir = '';
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'adapter-'));
});
afterAll(() => rm(dir, { recursive: true }));

test('a real PEFT adapter: 28 modules by their path in the base model', async () => {
  const adapter = await openAdapter(intents);
  expect(adapter.modules.size).toBe(28);
  expect(adapter.config).toEqual({ rank: 16, alpha: 32, baseModel: 'wordnet-llama-4m' });
  const down = adapter.modules.get('model.layers.3.mlp.down_proj');
  expect(down).toMatchObject({ rank: 16, inFeatures: 704, outFeatures: 256, scale: 2 });
  expect(down?.a).toHaveLength(16 * 704);
});

test.each([
  [{ peft_type: 'LOHA' }, 'peft_type "LOHA"', 'adapter-kind'],
  [{ use_dora: true }, 'DoRA = true', 'adapter-kind'],
  [{ use_rslora: true }, 'rsLoRA = true', 'adapter-kind'],
  [{ use_something_new: true }, 'use_something_new', 'adapter-kind'],
  [{ fan_in_fan_out: true }, 'fan_in_fan_out', 'adapter-kind'],
  [{ bias: 'lora_only' }, 'trained biases = "lora_only"', 'adapter-kind'],
  [{ modules_to_save: ['lm_head'] }, 'modules_to_save = ["lm_head"]', 'adapter-kind'],
  [{ rank_pattern: { q_proj: 4 } }, 'rank_pattern = {"q_proj":4}', 'adapter-kind'],
  [{ init_lora_weights: 'pissa' }, 'init_lora_weights = "pissa"', 'adapter-kind'],
  [{ r: 0 }, 'r is 0', 'adapter-config'],
  [{ r: 8 }, 'do not have the rank 8', 'adapter-tensors'],
  [{ lora_alpha: null }, 'lora_alpha is null', 'adapter-config'],
])('#34 a config with %j is refused by name', async (change, message, code) => {
  const config = JSON.parse(await readFile(join(intents, 'adapter_config.json'), 'utf8')) as object;
  await cp(intents, join(dir, 'changed'), { recursive: true });
  await writeFile(join(dir, 'changed/adapter_config.json'), JSON.stringify({ ...config, ...change }));
  await expect(openAdapter(join(dir, 'changed'))).rejects.toMatchObject({
    code: `checkpoint/${code}`,
    message: expect.stringContaining(message) as string,
  });
});

test('#34 alpha NaN, as Python writes it, is refused', async () => {
  await cp(intents, join(dir, 'nan'), { recursive: true });
  await writeFile(join(dir, 'nan/adapter_config.json'), '{"peft_type":"LORA","r":16,"lora_alpha":NaN}');
  await expect(openAdapter(join(dir, 'nan'))).rejects.toMatchObject({ code: 'checkpoint/adapter-config' });
});

test.each([
  ['a missing pair', { 'x.lora_A.weight': [2, 4] }, 'x has lora_A and no lora_B'],
  ['swapped factors', { 'x.lora_A.weight': [4, 2], 'x.lora_B.weight': [2, 8] }, 'swapped'],
  ['a vector', { 'x.lora_A.weight': [2], 'x.lora_B.weight': [8, 2] }, 'only matrices'],
  ['another rank', { 'x.lora_A.weight': [3, 4], 'x.lora_B.weight': [8, 3] }, 'do not have the rank 2'],
  ['DoRA’s magnitudes', { 'x.lora_magnitude_vector.weight': [8] }, 'belongs to DoRA'],
  ['an embedding', { 'x.lora_embedding_A': [2, 4] }, 'LoRA on an embedding'],
  ['a whole module', { 'lm_head.weight': [8, 4] }, 'a module that was trained whole'],
  ['nothing', {}, 'not one pair'],
])('#34 tensors with %s are refused', async (_, shapes, message) => {
  await writeFile(join(dir, 'adapter_config.json'), '{"peft_type":"LORA","r":2,"lora_alpha":4}');
  await writeFile(join(dir, 'adapter_model.safetensors'), safetensors(shapes));
  await expect(openAdapter(dir)).rejects.toThrow(message);
});

test('PEFT’s in-memory names, with the adapter’s own name inside, are understood', async () => {
  await writeFile(join(dir, 'adapter_config.json'), '{"peft_type":"LORA","r":2,"lora_alpha":4}');
  const shapes = {
    'base_model.model.h.0.lora_A.default.weight': [2, 4],
    'base_model.model.h.0.lora_B.default.weight': [8, 2],
  };
  await writeFile(join(dir, 'adapter_model.safetensors'), safetensors(shapes));
  expect([...(await openAdapter(dir)).modules.keys()]).toEqual(['h.0']);
});

function safetensors(shapes: { readonly [name: string]: readonly number[] | undefined }): Uint8Array {
  const header: { [name: string]: object } = {};
  let end = 0;
  for (const [name, shape = []] of Object.entries(shapes)) {
    const begin = end;
    end += shape.reduce((product, dim) => product * dim, 4);
    header[name] = { dtype: 'F32', shape, data_offsets: [begin, end] };
  }
  const json = new TextEncoder().encode(JSON.stringify(header));
  const file = new Uint8Array(8 + json.length + end);
  new DataView(file.buffer).setBigUint64(0, BigInt(json.length), true);
  file.set(json, 8);
  return file;
}
