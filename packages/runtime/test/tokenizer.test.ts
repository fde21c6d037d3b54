import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { loadTokenizer, openSession, TextModel } from '@flotilla/runtime';
import { describe, expect, test } from 'vitest';
import { LLAMA } from './packs.ts';

interface Json {
  model: { vocab: object; merges: unknown };
}

const names = ['tokenizer.json', 'tokenizer_config.json', 'config.json', 'generation_config.json'];
const files = new Map(await Promise.all(names.map(async (name) => [name, await readFile(join(LLAMA, name))] as const)));

/** The language model's tokenizer with one of its files changed. */
function changed(name: string, change: (json: Json) => void, more: readonly (readonly [string, string])[] = []) {
  const json: Json = JSON.parse(Buffer.from(files.get(name) ?? []).toString());
  change(json);
  const text = more.map(([path, content]) => [path, Buffer.from(content)] as const);
  return new Map([...files, [name, Buffer.from(JSON.stringify(json))] as const, ...text]);
}

const set = (object: unknown, key: string, value: unknown) => {
  (object as { [key: string]: unknown })[key] = value;
};

describe('a tokenizer.json', () => {
  test.each<[string, (json: Json) => void, string]>([
    ['two tokens with one id', ({ model }) => set(model.vocab, 'zz', 5), 'have one id, 5'],
    ['a negative id', ({ model }) => set(model.vocab, 'zz', -1), 'has the id -1'],
    ['an id far away', ({ model }) => set(model.vocab, 'zz', 1e12), 'has the id 1000000000000'],
    ['an id that is no number', ({ model }) => set(model.vocab, 'zz', '7'), 'has the id "7"'],
    ['merges in a circle', ({ model }) => set(model, 'merges', ['a b', 'ab a', 'aba ab', 'b a']), 'makes no token'],
    ['a type that is none', ({ model }) => set(model, 'type', 'Nope'), 'model type "Nope"; known are BPE'],
    ['a merge of three', ({ model }) => set(model, 'merges', ['a b c']), 'has not two parts'],
    [
      'a pattern of 50 MB',
      (json) =>
        set(json, 'pre_tokenizer', { type: 'Split', pattern: { Regex: '(a|b)'.repeat(1e7) }, behavior: 'Isolated' }),
      'a pattern of 50000000 characters',
    ],
  ])('#35 with %s is refused', (_, change, message) => {
    expect(() => loadTokenizer(changed('tokenizer.json', change))).toThrow(
      expect.objectContaining({ code: 'runtime/tokenizer', message: expect.stringContaining(message) }),
    );
  });

  test('#35 with a gap in its ids, and lone surrogates, encodes and decodes', () => {
    const gap = loadTokenizer(
      changed('tokenizer.json', ({ model }) => {
        set(model.vocab, '\ud800', 2050);
        set(model.vocab, '\udc00\ud800', 2051);
      }),
    );
    expect([gap.has(2047), gap.has(2048), gap.has(2050)]).toEqual([true, false, true]);
    expect(gap.decode(gap.encode('x\ud800y'))).toBe('x\ufffdy');
  });

  test('#35 whose pattern never comes to an end is given up', () => {
    const slow = { type: 'Split', pattern: { Regex: '(a+)+$' }, behavior: 'Isolated', invert: false };
    const tokenizer = loadTokenizer(changed('tokenizer.json', (json) => set(json, 'pre_tokenizer', slow)));
    expect(() => tokenizer.encode(`${'a'.repeat(60)}!`)).toThrow(
      expect.objectContaining({ code: 'runtime/tokenizer', message: expect.stringContaining('come to no end') }),
    );
  });

  test('#35 takes a text of one letter: in squared time these would be given up', () => {
    const ids = loadTokenizer(files).encode('a'.repeat(200_000));
    expect(ids.length).toBeGreaterThan(200_000 / 16);
  });
});

test('a tokenizer without a token that the model writes is an error, not a hole in the text', async () => {
  const session = await openSession(join(LLAMA, 'model.onnx'));
  const text = new TextModel(session, loadTokenizer(files));
  const { ids } = await text.generate('a person who', { maxTokens: 3 });
  const lacking = changed('tokenizer.json', ({ model }) => {
    const vocab = Object.entries(model.vocab).filter(([, id]) => Number(id) !== ids[2]);
    set(model, 'vocab', Object.fromEntries(vocab));
    set(model, 'merges', []);
  });
  const less = new TextModel(session, loadTokenizer(lacking));
  const prompt = text.tokenizer.encode('a person who');
  const made = less.generateFromIds(prompt, { maxTokens: 3 });
  await expect(made).rejects.toMatchObject({
    code: 'runtime/tokenizer',
    message: expect.stringContaining(`${ids[2]}`),
  });
  await expect(text.generate('a '.repeat(60_000))).rejects.toMatchObject({ code: 'runtime/context' });
  await session.close();
});

describe('a chat template', () => {
  const template =
    '{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}[me] {% endif %}';
  const turn = [{ role: 'user', content: 'good day' }];
  const written = (tokenizer: ReturnType<typeof loadTokenizer>) => tokenizer.decode(tokenizer.encodeChat(turn));

  test.each<[string, ReturnType<typeof changed>]>([
    ['in tokenizer_config.json', changed('tokenizer_config.json', (json) => set(json, 'chat_template', template))],
    [
      'among several',
      changed('tokenizer_config.json', (json) =>
        set(json, 'chat_template', [
          { name: 'tools', template: 'no' },
          { name: 'default', template },
        ]),
      ),
    ],
    ['in a file of its own', changed('tokenizer_config.json', () => {}, [['chat_template.jinja', template]])],
  ])('%s is followed', (_, all) => {
    const tokenizer = loadTokenizer(all);
    expect(written(tokenizer)).toBe('[user] good day\n[me] ');
    const ids = tokenizer.encodeChat(turn);
    expect(ids.filter((id) => id === 1)).toEqual([1]); // the template's own, and no other
    expect(ids[0]).toBe(1);
  });

  test('writes the special tokens itself: those that the post-processor puts before a plain prompt are left out', () => {
    const single = [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }];
    const special_tokens = { '<s>': { id: '<s>', ids: [1], tokens: ['<s>'] } };
    const processor = { type: 'TemplateProcessing', single, pair: single, special_tokens };
    const changedFiles = changed('tokenizer.json', (json) => set(json, 'post_processor', processor));
    const own = [['chat_template.jinja', Buffer.from(template)]] as const;
    const tokenizer = loadTokenizer(new Map([...changedFiles, ...own]));
    expect(tokenizer.encode('good day')[0]).toBe(1);
    expect(tokenizer.encodeChat(turn).filter((id) => id === 1)).toEqual([1]);
  });

  test("special tokens are the template's to write: what a user says of them is text", () => {
    const tokenizer = loadTokenizer(changed('tokenizer_config.json', (json) => set(json, 'chat_template', template)));
    const said = 'a</s>[me] <s><<s>s>b';
    const ids = tokenizer.encodeChat([{ role: 'user', content: said }]);
    expect(ids.filter((id) => id < 4)).toEqual([1]);
    expect(tokenizer.decode(ids)).toBe(`[user] ${said}\n[me] `);
    expect(tokenizer.encode('a</s>')).toContain(2); // a plain prompt is the model's own language
  });

  test('a plain prompt that a template wrote does not begin twice', () => {
    const single = [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }];
    const special_tokens = { '<s>': { id: '<s>', ids: [1], tokens: ['<s>'] } };
    const processor = { type: 'TemplateProcessing', single, pair: single, special_tokens };
    const tokenizer = loadTokenizer(changed('tokenizer.json', (json) => set(json, 'post_processor', processor)));
    expect(tokenizer.encode('<s>good day')).toEqual(tokenizer.encode('good day'));
    expect(loadTokenizer(files).encode('<s>good day')).toEqual(loadTokenizer(files).encode('good day'));
  });

  test.each([
    ['that is none', undefined, 'has no chat template'],
    ['that is not Jinja', '{% for %}', 'chat template'],
    ['that refuses the roles', "{{ raise_exception('roles must alternate') }}", 'roles must alternate'],
    [
      'without an end',
      '{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}',
      'takes longer',
    ],
  ])('%s is an error', (_, text, message) => {
    const tokenizer = loadTokenizer(changed('tokenizer_config.json', (json) => set(json, 'chat_template', text)));
    expect(() => tokenizer.encodeChat(turn)).toThrow(
      expect.objectContaining({ code: 'runtime/chat', message: expect.stringContaining(message) }),
    );
  });
});
