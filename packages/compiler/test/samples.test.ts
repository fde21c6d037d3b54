import type { SessionInput, TextTokenizer } from '@flotilla/runtime';
import { expect, test } from 'vitest';
import { calibrationData } from '../src/compile/samples.ts';
import type { TextSample } from '../src/data/data-set.ts';

const inputs: readonly SessionInput[] = [{ name: 'input_ids', dtype: 'int64', dims: [1, 'length'] }];
/** A token for each character. */
const tokenizer = { encode: (text: string) => Array.from(text, (c) => c.codePointAt(0) ?? 0) } as TextTokenizer;

async function fed(texts: readonly Omit<TextSample, 'name'>[]): Promise<string[]> {
  const named = texts.map((text, i) => ({ name: `${i}`, ...text }));
  const data = {
    kind: 'text' as const,
    path: 'texts',
    length: texts.length,
    async *texts() {
      yield* named;
    },
  };
  const found: string[] = [];
  for await (const { inputs: feeds } of calibrationData(data, inputs, tokenizer).samples()) {
    const ids = feeds['input_ids']?.data as BigInt64Array;
    found.push(String.fromCodePoint(...Array.from(ids, Number)));
  }
  return found;
}

test('plain texts are joined, each with its newline, and cut into windows of 128 tokens; the rest comes last', async () => {
  const line = (letter: string) => ({ text: letter.repeat(99), completion: undefined });
  const all = `${'a'.repeat(99)}\n${'b'.repeat(99)}\n${'c'.repeat(99)}\n`;
  expect(await fed(['a', 'b', 'c'].map(line))).toEqual([all.slice(0, 128), all.slice(128, 256), all.slice(256)]);
});

test('a prompt with its answer is a sample of its own, cut at 128 tokens', async () => {
  const texts = [
    { text: 'on =>', completion: ' {}' },
    { text: 'x'.repeat(200), completion: 'y' },
  ];
  expect(await fed(texts)).toEqual(['on => {}', 'x'.repeat(128)]);
});
