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
  expect(adapter.config).toMatchObject({ rank: 16, alpha: 32, baseModel: 'wordnet-llama-4m', rsLora: false });
  const down = adapter.modules.get('model.layers.3.mlp.down_proj');
  expect(down).toMatchObject({ rank: 16, inFeatures: 704, outFeatures: 256, scale: 2 });
  expect(down?.a).toHaveLength(16 * 704);
});

test.each([
  [{ peft_type: 'LOHA' }, 'peft_type "LOHA"', 'adapter-kind'],
  [{ use_dora: true }, 'use_dora is true, and there is no magnitude', 'adapter-tensors'],
  [{ lora_bias: true }, 'lora_bias is true, and there is no bias', 'adapter-tensors'],
  [{ use_rslora: 'yes' }, 'use_rslora is "yes", not true or false', 'adapter-config'],
  [{ use_something_new: true }, 'use_something_new', 'adapter-kind'],
  [{ use_qalora: true }, 'QALoRA = true', 'adapter-kind'],
  [{ bias: 'some' }, 'bias is "some"', 'adapter-config'],
  [{ target_parameters: ['experts.w'] }, 'target_parameters = ["experts.w"]', 'adapter-kind'],
  [
    { rank_pattern: { q_proj: 4 } },
    'q_proj: lora_A [16, 256], lora_B [256, 16] do not have the rank 4',
    'adapter-tensors',
  ],
  [{ rank_pattern: { q_proj: 0 } }, 'rank_pattern.q_proj is 0', 'adapter-config'],
  [{ init_lora_weights: 'pissa' }, 'init_lora_weights = "pissa"', 'adapter-kind'],
  [{ trainable_token_indices: [3] }, 'the trained rows are missing', 'adapter-tensors'],
  [{ target_modules: '.*experts.*' }, 'target_modules ".*experts.*" matches none', 'adapter-targets'],
  [{ target_modules: ['q_proj'] }, 'there are factors for model.layers.0.self_attn.k_proj, which', 'adapter-targets'],
  [
    { exclude_modules: ['layers.2.mlp.up_proj'] },
    'there are factors for model.layers.2.mlp.up_proj',
    'adapter-targets',
  ],
  [{ layers_to_transform: [0, 1, 2] }, 'there are factors for model.layers.3.self_attn.q_proj', 'adapter-targets'],
  [{ target_modules: '(' }, 'the regular expression "(" cannot be used', 'adapter-config'],
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
  ['a vector', { 'x.lora_A.weight': [2], 'x.lora_B.weight': [8, 2] }, 'no factors of a matrix'],
  ['another rank', { 'x.lora_A.weight': [3, 4], 'x.lora_B.weight': [8, 3] }, 'do not have the rank 2'],
  ['DoRA’s magnitudes alone', { 'x.lora_magnitude_vector.weight': [8] }, 'neither lora_A nor lora_B'],
  [
    'DoRA’s magnitudes and no flag',
    { 'x.lora_A.weight': [2, 4], 'x.lora_B.weight': [8, 2], 'x.lora_magnitude_vector': [8] },
    'use_dora is false, and there is x.lora_magnitude_vector',
  ],
  ['half an embedding', { 'x.lora_embedding_A': [2, 4] }, 'x has lora_A and no lora_B'],
  ['a module that nothing names', { 'score.weight': [8, 4] }, 'a module that modules_to_save does not name'],
  ['a bias that was not trained', { 'x.bias': [8] }, 'bias is "none"'],
  ['another method’s', { 'x.hada_w1_a': [8, 4] }, 'belongs to LoHa'],
  ['nothing', {}, 'not one pair'],
])('#34 tensors with %s are refused', async (_, shapes, message) => {
  await writeFile(join(dir, 'adapter_config.json'), '{"peft_type":"LORA","r":2,"lora_alpha":4}');
  await writeFile(join(dir, 'adapter_model.safetensors'), safetensors(shapes));
  await expect(openAdapter(dir)).rejects.toThrow(message);
});

test('#34 a module that is to be saved must be there; of several names one will do', async () => {
  const put = async (saved: readonly string[], more: { readonly [name: string]: readonly number[] } = {}) => {
    const config = { peft_type: 'LORA', r: 2, lora_alpha: 4, modules_to_save: saved };
    await writeFile(join(dir, 'adapter_config.json'), JSON.stringify(config));
    const pair = { 'x.lora_A.weight': [2, 4], 'x.lora_B.weight': [8, 2] };
    await writeFile(join(dir, 'adapter_model.safetensors'), safetensors({ ...pair, ...more }));
    return openAdapter(dir);
  };
  await expect(put(['score'])).rejects.toThrow('modules_to_save names score, and there are no weights of it');
  const { parameters } = await put(['classifier', 'score'], { 'base_model.model.score.weight': [8, 4] });
  expect([...parameters.keys()]).toEqual(['score.weight']);
});

test('PEFT’s in-memory names, with the adapter’s own name inside, are understood', async () => {
  await writeFile(join(dir, 'adapter_config.json'), '{"peft_type":"LORA","r":2,"lora_alpha":4}');
  const shapes = {
    'base_model.model.h.0.lora_A.default.weight': [2, 4],
    'base_model.model.base_model.model.h.0.lora_B.default.weight': [8, 2], // wrapped twice
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
