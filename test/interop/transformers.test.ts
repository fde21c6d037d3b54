import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openModelFolder } from '@flotilla/checkpoint';
import { compile } from '@flotilla/compiler';
import { loadTokenizer, openSession, TextModel } from '@flotilla/runtime';
import { env, pipeline } from '@huggingface/transformers';
import { afterAll, beforeAll, expect, test } from 'vitest';

const llama = 'test/fixtures/models/wordnet-llama-4m';
const prompts = ['volt: a unit of', 'conveyor belt: a moving belt that'];
const turns = [{ role: 'user', content: 'volt' }];
const template = '{{ bos_token }}{% for m in messages %}{{ m.content }}: {% endfor %}';
const maxTokens = 12;
let dir = '';
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'transformers-'));
});
afterAll(() => rm(dir, { recursive: true }));

test('a compiled folder opens in transformers.js and writes the same text there', { timeout: 120_000 }, async () => {
  const out = join(dir, 'llama');
  const source = join(dir, 'source');
  await cp(llama, source, { recursive: true });
  await writeFile(join(source, 'chat_template.jinja'), template);
  const options = { weights: 'int4', method: 'rtn', layout: 'transformers', latencySeconds: 0, floor: 0 };
  const report = await compile(source, out, { ...options, boards: ['raspberrypi-5'] });
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
  // The template lay in a file of its own, which that library does not look for.
  theirs.push(await generator(turns, { max_new_tokens: maxTokens, do_sample: false, return_full_text: false }));
  await generator.dispose();
  const answer = [...turns, { role: 'assistant', content: ours.at(-1) }];
  expect(theirs).toEqual([...ours.slice(0, -1), answer].map((text) => [{ generated_text: text }]));
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
  const { files, onnxPath } = await openModelFolder(folder);
  const contents = await Promise.all(files.map(async ({ path, source }) => [path, await readFile(source)] as const));
  const session = await openSession(onnxPath);
  const text = new TextModel(session, loadTokenizer(new Map(contents)));
  const made = [];
  // Read whole, as it does there: products of other shapes add up in another order.
  for (const prompt of prompts) made.push((await text.generate(prompt, { maxTokens, reusePrefix: false })).text);
  made.push((await text.chat(turns, { maxTokens, reusePrefix: false })).text);
  await session.close();
  return made;
}
