import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { loadBoard } from '@flotilla/boards';
import { lowerModel } from '@flotilla/lowering';
import { encodeModel, openModel } from '@flotilla/onnx';
import {
  benchText,
  type LoadedSession,
  type LocalSession,
  loadTokenizer,
  openSession,
  spawnSession,
  TextModel,
} from '@flotilla/runtime';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { LLAMA } from './packs.ts';
import { saved } from './tiny-models.ts';

const names = ['tokenizer.json', 'tokenizer_config.json', 'config.json', 'generation_config.json'];
const tokenizer = loadTokenizer(
  new Map(await Promise.all(names.map(async (name) => [name, await readFile(join(LLAMA, name))] as const))),
);
const references: readonly { prompt: string; greedy: string }[] = JSON.parse(
  await readFile(join(LLAMA, 'reference.json'), 'utf8'),
);
const prompt = references[0]?.prompt ?? '';

async function inPlaceLlama(): Promise<Uint8Array> {
  const model = await openModel(join(LLAMA, 'model.onnx'));
  return encodeModel(lowerModel(model, await loadBoard('host'), { cache: 'in-place' }).model);
}

describe.each([
  ['that gives its whole cache', openSession, async () => join(LLAMA, 'model.onnx')],
  ['that writes where it reads', openSession, async () => saved(await inPlaceLlama())],
  ['that writes where it reads, in a child', spawnSession, async () => saved(await inPlaceLlama())],
])('a decoder %s', (_, open, path) => {
  let session: LoadedSession;
  let text: TextModel;
  beforeAll(async () => {
    session = await open(await path());
    text = new TextModel(session, tokenizer);
  });
  afterAll(() => session.close());

  test("writes PyTorch's texts, alone and together", async () => {
    for (const { prompt: one, greedy } of references)
      expect((await text.generate(one, { maxTokens: 40 })).text).toBe(greedy);
    const twice = [prompt, prompt];
    const greedy = references[0]?.greedy;
    expect((await text.generateAll(twice, { maxTokens: 40 })).map((it) => it.text)).toEqual([greedy, greedy]);
  });

  test('goes on with what it has read: the same text, whether the beginning is shared, all of it, or none', async () => {
    const fresh = async (of: string) => (await text.generate(of, { maxTokens: 20, reusePrefix: false })).text;
    const other = references[1]?.prompt ?? '';
    const expected = [await fresh(prompt), await fresh(`${prompt} of`), await fresh(other)];
    const first = await text.generate(prompt, { maxTokens: 20 });
    const longer = await text.generate(`${prompt} of`, { maxTokens: 20 });
    const again = await text.generate(`${prompt} of`, { maxTokens: 20 });
    const last = await text.generate(other, { maxTokens: 20 });
    expect([first, longer, last].map((it) => it.text)).toEqual(expected);
    expect(again.text).toBe(longer.text);
    expect(longer.reusedTokens).toBeGreaterThanOrEqual(first.promptTokens - 1);
    expect(again.reusedTokens).toBe(again.promptTokens - 1);
    expect(last.reusedTokens).toBeLessThan(last.promptTokens);
  });

  test('draws the same from the same seed, whatever was read before', async () => {
    const long = { maxTokens: 80, temperature: 1.5, topP: 0.95, seed: 7 };
    const one = await text.generate(prompt, long);
    const two = await text.generate(prompt, long);
    expect(two.text).toBe(one.text);
    expect(one.seed).toBe(7);
    expect((await text.generate(prompt, { ...long, seed: 8 })).text).not.toBe(one.text);
  });

  test('is measured: first tokens apart from the others', async () => {
    const { firstToken, token, tokensPerSecond, overheadShare, promptTokens } = await benchText(text, {
      prompts: references.map((it) => it.prompt),
      seconds: 0.1,
      maxTokens: 6,
    });
    expect(token.count).toBeGreaterThan(firstToken.count); // some tokens complete no character
    expect(token.count).toBeLessThanOrEqual(5 * firstToken.count);
    expect(promptTokens).toBeGreaterThan(1);
    expect(tokensPerSecond).toBeGreaterThan(0);
    expect(overheadShare).toBeGreaterThan(0);
    expect(overheadShare).toBeLessThan(1);
  });

  test('a prompt of the whole context is read in pieces, and can be given up', async () => {
    const ids = Array.from({ length: 511 }, (_id, i) => 3 + ((i * 7) % 2000));
    const { tokens, stopReason } = await text.generateFromIds(ids, { maxTokens: 5, repetitionPenalty: 1.3 });
    expect({ tokens, stopReason }).toEqual({ tokens: 1, stopReason: 'length' });
    await expect(text.generateFromIds(ids, { signal: AbortSignal.abort(new Error('enough')) })).rejects.toThrow(
      'enough',
    );
  });
});

test('tells nothing of a stop string, and everything else', async () => {
  const session = await openSession(join(LLAMA, 'model.onnx'));
  const text = new TextModel(session, tokenizer);
  const greedy = references[0]?.greedy ?? '';
  const stop = greedy.slice(12, 17);
  const pieces: string[] = [];
  const made = await text.generate(prompt, { maxTokens: 40, stop: [stop], onToken: (piece) => pieces.push(piece) });
  await session.close();
  expect(made).toMatchObject({ text: greedy.slice(0, greedy.indexOf(stop)), stopReason: 'stop' });
  expect(pieces.join('')).toBe(made.text);
});

describe('reading ahead', () => {
  let session: LocalSession;
  let runs = 0;
  beforeAll(async () => {
    session = await openSession(await saved(await inPlaceLlama()));
    const run = session.bare.run.bind(session.bare);
    Object.assign(session.bare, {
      run: (...args: Parameters<typeof run>) => {
        runs++;
        return run(...args);
      },
    });
  });
  afterAll(() => session.close());

  const step = async (ids: readonly number[], past: number, endsAt?: readonly number[]) =>
    (await session.decode({ ids, batch: 1, past, choice: { sampling: {}, draws: [0], allowed: [undefined], endsAt } }))
      .ids;

  test('what is asked for next is read already, and is the same', async () => {
    const first = await step([5, 6, 7], 0, []);
    const plain = [await step(first, 3), await step([9], 3)];
    await step([5, 6, 7], 0, []);
    await session.readAhead();
    runs = 0;
    expect([await step(first, 3), runs]).toEqual([plain[0], 0]);
    await step([5, 6, 7], 0, []);
    await session.readAhead();
    runs = 0;
    expect([await step([9], 3), runs]).toEqual([plain[1], 1]); // another than was chosen
  });

  test('nothing is read behind an end, where nobody reads on, or twice', async () => {
    const end = await step([5, 6, 7], 0, []);
    for (const endsAt of [end, undefined]) {
      await step([5, 6, 7], 0, endsAt);
      runs = 0;
      await session.readAhead();
      expect(runs).toBe(0);
    }
    await step([5, 6, 7], 0, []);
    runs = 0;
    await session.readAhead();
    await session.readAhead();
    expect(runs).toBe(1);
  });
});
