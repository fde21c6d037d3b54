import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compile } from '@flotilla/compiler';
import { loadTokenizer, openSession, TextModel } from '@flotilla/runtime';
import { env, pipeline } from '@huggingface/transformers';
import { afterAll, beforeAll, expect, test } from 'vitest';

const llama = 'test/fixtures/models/wordnet-llama-4m';
const prompts = ['volt: a unit of', 'conveyor belt: a moving belt that'];
const maxTokens = 12;
let dir = '';
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'transformers-'));
});
afterAll(() => rm(dir, { recursive: true }));

test('a compiled folder opens in transformers.js and writes the same text there', { timeout: 120_000 }, async () => {
  const out = join(dir, 'llama');
  const options = { weights: 'int4', method: 'rtn', layout: 'transformers', latencySeconds: 0, floor: 0 };
  const report = await compile(llama, out, { ...options, boards: ['raspberrypi-5'] });
  expect(report.pack.digest).toBeNull();
  expect(await readdir(out)).toEqual(
    expect.arrayContaining(['config.json', 'tokenizer.json', 'generation_config.json']),
  );
  expect(await readdir(join(out, 'onnx'))).toEqual(['model_q4.onnx']);

  const ours = await textsHere(out);
  env.allowRemoteModels = false;
  env.localModelPath = `${dir}/`;
  // No dtype is named here: config.json says which file it is.
  const generator = await pipeline('text-generation', 'llama');
  const theirs: unknown[] = [];
  for (const prompt of prompts)
    theirs.push(await generator(prompt, { max_new_tokens: maxTokens, do_sample: false, return_full_text: false }));
  await generator.dispose();
  expect(theirs).toEqual(ours.map((text) => [{ generated_text: text }]));
  expect(ours[0]?.length).toBeGreaterThan(10);
});

test('a folder that holds something else is not replaced', async () => {
  const out = join(dir, 'mine');
  await rm(out, { recursive: true, force: true });
  await writeFile(out, 'mine');
  await expect(compile(llama, out, { weights: 'fp32', layout: 'transformers', latencySeconds: 0 })).rejects.toThrow(
    out,
  );
  expect(await readFile(out, 'utf8')).toBe('mine');
});

async function textsHere(folder: string): Promise<readonly string[]> {
  const names = ['tokenizer.json', 'tokenizer_config.json', 'config.json', 'generation_config.json'];
  const files = await Promise.all(names.map(async (name) => [name, await readFile(join(folder, name))] as const));
  const session = await openSession(join(folder, 'onnx', 'model_q4.onnx'));
  const text = new TextModel(session, loadTokenizer(new Map(files)));
  const made = [];
  // Read whole, as it does there: products of other shapes add up in another order.
  for (const prompt of prompts) made.push((await text.generate(prompt, { maxTokens, reusePrefix: false })).text);
  await session.close();
  return made;
}
