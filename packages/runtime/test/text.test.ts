import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type LoadedSession, loadTokenizer, openSession, spawnSession, TextModel } from '@flotilla/runtime';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const folder = 'test/fixtures/models/wordnet-llama-4m';

async function tokenizerOf(path: string) {
  const names = ['tokenizer.json', 'tokenizer_config.json', 'config.json', 'generation_config.json'];
  const files = await Promise.all(names.map(async (name) => [name, await readFile(join(path, name))] as const));
  return loadTokenizer(new Map(files));
}

async function references(): Promise<{ prompt: string; greedy: string }[]> {
  return JSON.parse(await readFile(join(folder, 'reference.json'), 'utf8'));
}

/** `logits.i` and `input_ids.i` of reference.safetensors. */
async function referenceTensors() {
  const file = await readFile(join(folder, 'reference.safetensors'));
  const length = Number(file.readBigUInt64LE());
  const header: { [name: string]: { dtype: string; data_offsets: [number, number] } } = JSON.parse(
    file.subarray(8, 8 + length).toString(),
  );
  const read = (name: string) => {
    const [from, to] = header[name]?.data_offsets ?? [0, 0];
    return new Uint8Array(file.subarray(8 + length + from, 8 + length + to)).buffer;
  };
  return (i: number) => ({
    ids: [...new BigInt64Array(read(`input_ids.${i}`))].map(Number),
    logits: new Float32Array(read(`logits.${i}`)),
  });
}

describe.each([
  ['in this process', openSession],
  ['in a child', spawnSession],
])('text generation %s', (_, open) => {
  let session: LoadedSession;
  let text: TextModel;
  beforeAll(async () => {
    session = await open(join(folder, 'model.onnx'));
    text = new TextModel(session, await tokenizerOf(folder));
  });
  afterAll(() => session.close());

  test("PyTorch's greedy continuations come out", async () => {
    for (const { prompt, greedy } of await references()) {
      const made = await text.generate(prompt, { maxTokens: 40 });
      expect(made.text).toBe(greedy);
    }
  });

  test("logits are PyTorch's within 1e-4", async () => {
    const reference = await referenceTensors();
    for (const i of [0, 1, 2, 3]) {
      const { ids, logits } = reference(i);
      const { data, dims } = await text.logits(ids);
      expect(dims).toEqual([ids.length, 2048]);
      const worst = data.reduce((max, value, j) => Math.max(max, Math.abs(value - (logits[j] ?? Number.NaN))), 0);
      expect(worst).toBeLessThan(1e-4);
    }
  });

  test('together, in batches of one length, prompts get what they get alone', async () => {
    const prompts = (await references()).map(({ prompt }) => prompt);
    const twice = [...prompts, ...prompts.toReversed()];
    const together = await text.generateAll(twice, { maxTokens: 20 });
    for (const [i, prompt] of twice.entries())
      expect(together[i]?.text).toBe((await text.generate(prompt, { maxTokens: 20 })).text);
  });

  test('stops at strings, tokens, the length, and the context', async () => {
    const [{ prompt, greedy }] = (await references()) as [{ prompt: string; greedy: string }];
    const cut = await text.generate(prompt, { maxTokens: 40, stop: ['\n', 'never'] });
    expect(cut).toMatchObject({ text: greedy.slice(0, greedy.indexOf('\n')), stopReason: 'stop' });
    expect(await text.generate(prompt, { maxTokens: 3 })).toMatchObject({ tokens: 3, stopReason: 'length' });
    await expect(text.generate('a b c '.repeat(400))).rejects.toMatchObject({ code: 'runtime/context' });
    for (const id of [-4, 1.5, 2048])
      await expect(text.generateFromIds([1, id])).rejects.toMatchObject({ code: 'runtime/tokenizer' });
  });

  test('streams the text as it comes and stops when told to', async () => {
    const [{ prompt }] = (await references()) as [{ prompt: string; greedy: string }];
    const pieces: string[] = [];
    const made = await text.generate(prompt, { maxTokens: 20, onToken: (piece) => pieces.push(piece) });
    expect(pieces.join('')).toBe(made.text);
    expect(pieces.length).toBeGreaterThan(10);
    expect(made.tokensPerSecond).toBeGreaterThan(1);
    const stop = new AbortController();
    const stopped = text.generate(prompt, { signal: stop.signal, onToken: () => stop.abort(new Error('enough')) });
    await expect(stopped).rejects.toThrow('enough');
    expect((await text.generate(prompt, { maxTokens: 20 })).text).toBe(made.text); // and works on
  });
});

test('a prompt starts with <s>, and text survives the way to ids and back', async () => {
  const tokenizer = await tokenizerOf(folder);
  const ids = tokenizer.encode('kindly switch off the space heater =>');
  expect(ids[0]).toBe(1);
  expect(ids[1]).not.toBe(1);
  expect(tokenizer.decode(ids)).toBe('kindly switch off the space heater =>');
  expect([...tokenizer.eosIds]).toEqual([2]);
  expect(tokenizer.maxTokens).toBe(512);
});

test.each([
  ['nothing', new Map()],
  ['no JSON', new Map([['tokenizer.json', Buffer.from('{')]])],
  ['a list', new Map([['tokenizer.json', Buffer.from('[]')]])],
  ['an empty object', new Map([['tokenizer.json', Buffer.from('{}')]])],
])('a tokenizer from %s is refused', (_, files) => {
  expect(() => loadTokenizer(files)).toThrow(expect.objectContaining({ code: 'runtime/tokenizer' }));
});
