import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadTokenizer, spawnSession, TextModel, type TensorValue } from '@flotilla/runtime';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { boxF1 } from '../src/metrics/box-f1.ts';
import { boxesOf, countMatches } from '../src/metrics/boxes.ts';
import { chooseMetric } from '../src/metrics/choose.ts';
import { cosine } from '../src/metrics/cosine.ts';
import { ctcText, decodeCtc } from '../src/metrics/ctc-text.ts';
import { exactMatch } from '../src/metrics/exact-match.ts';
import { keptShare, metricValue } from '../src/metrics/metric.ts';
import { perplexity } from '../src/metrics/perplexity.ts';
import { top1 } from '../src/metrics/top1.ts';
import { textData } from '../src/data/text-data.ts';

const folder = 'test/fixtures/models/wordnet-llama-4m';
let dir = '';
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'metrics-'));
});
afterAll(() => rm(dir, { recursive: true }));

test('top1 counts rows whose strongest class is the label', () => {
  const y = floats([2, 3], [0, 5, 1, 9, 2, 3]);
  expect(top1.score({ y }, { name: 'a', inputs: {}, label: [1, 2] }, {})).toEqual({ sum: 1, weight: 2 });
  const label: TensorValue = { dtype: 'int64', dims: [1], data: BigInt64Array.of(0n) };
  const one = top1.score({ y: floats([1, 3], [1, 0, 0]) }, { name: 'b', inputs: {}, label }, {});
  expect(one).toEqual({ sum: 1, weight: 1 });
  expect(metricValue(top1, [{ sum: 1, weight: 2 }, one])).toBeCloseTo(2 / 3);
  expect(() => top1.score({ y }, { name: 'c', inputs: {}, label: 1 }, {})).toThrow('c: 1 labels for 2 rows of classes');
  expect(() => top1.score({ y }, { name: 'd', inputs: {}, label: 'x' }, {})).toThrow('d has no label');
});

test('ctc-text: repeats and blanks go, a repeat after a blank stays, the class past the keys is a space', () => {
  const keys = ['a', 'b'];
  const path = [1, 1, 0, 1, 3, 2];
  const scores = Float32Array.from(path.flatMap((best) => [0, 1, 2, 3].map((c) => (c === best ? 1 : 0))));
  expect(decodeCtc(scores, 4, keys)).toBe('aa b');
  expect(() => decodeCtc(scores, 6, keys)).toThrow('2 keys do not name 6 classes');
  const y = floats([1, 6, 4], [...scores]);
  expect(ctcText(keys).score({ y }, { name: 'a', inputs: {}, label: 'aa b' }, {}).sum).toBe(1);
  const label: TensorValue = { dtype: 'uint8', dims: [2], data: new TextEncoder().encode('ab') };
  expect(ctcText(keys).score({ y }, { name: 'b', inputs: {}, label }, {}).sum).toBe(0);
});

test('cosine is 1 for equal directions, 0 for orthogonal ones, and takes zeros', () => {
  const of = (a: number[], b: number[]) =>
    cosine.score({ y: floats([a.length], a) }, { name: 'a', inputs: {} }, { y: floats([b.length], b) }).sum;
  expect(of([2, 0], [1, 0])).toBe(1);
  expect(of([0, 1], [1, 0])).toBe(0);
  expect(of([0], [0])).toBe(1);
});

describe('box-f1', () => {
  // Two words, a speck that is no box, and a part below the threshold.
  const page = map(['.......', '.###...', '.###...', '.###...', '......#', '####...', '####ooo', '####ooo']);
  const moved = map(['.......', '..###..', '..###..', '..###..', '.......', '.......', '.......', '.......']);
  const label: TensorValue = { dtype: 'int32', dims: [1, 4], data: Int32Array.of(1, 1, 4, 4) };
  test('boxes of the connected parts, in pixels', () => {
    const at = (threshold: number, least: number) =>
      boxesOf({ data: page.data, height: 8, width: 7 }, threshold, least);
    const both = [
      [1, 1, 4, 4],
      [0, 5, 4, 8],
    ];
    expect(at(0.3, 0.6)).toEqual(both);
    expect(at(0.05, 0)).toContainEqual([0, 5, 7, 8]);
    // With what is faint in it the second is no longer sure enough.
    expect(at(0.05, 0.8)).toEqual([[1, 1, 4, 4]]);
  });
  test.each([
    ['what fp32 finds, where no boxes are given', page, undefined, { sum: 4, weight: 4 }],
    ['a box half beside, and one that is missing', moved, undefined, { sum: 2, weight: 3 }],
    ['labelled boxes', page, label, { sum: 2, weight: 3 }],
  ])('%s', (_, output, given, score) => {
    expect(boxF1.score({ output }, { name: 'a', inputs: {}, label: given }, { output: page })).toEqual(score);
  });
  test('a box counts once, and a label that is no box is named', () => {
    expect(
      countMatches(
        [
          [0, 0, 4, 4],
          [0, 0, 4, 3],
        ],
        [[0, 0, 4, 4]],
      ),
    ).toBe(1);
    expect(() => boxF1.score({ output: page }, { name: 'a', inputs: {}, label: 3 }, {})).toThrow('a has no label');
    const flat = floats([1, 2, 28], [...page.data]);
    const three = floats([3, 8, 7], [...page.data, ...page.data, ...page.data]);
    expect(() => boxF1.score({ output: three }, { name: 'a', inputs: {} }, { flat })).toThrow('[3, 8, 7]');
  });
});

test('kept is the share that is left, whichever way is better', () => {
  expect(keptShare({ higherIsBetter: true }, 0.9, 1)).toBe(0.9);
  expect(keptShare({ higherIsBetter: false }, 25, 24)).toBe(0.96);
  expect(keptShare({ higherIsBetter: true }, 0, 0)).toBe(1);
});

describe('language models', () => {
  let model: TextModel;
  let close = async (): Promise<void> => {};
  beforeAll(async () => {
    const names = ['tokenizer.json', 'tokenizer_config.json', 'config.json', 'generation_config.json'];
    const files = await Promise.all(names.map(async (name) => [name, await readFile(join(folder, name))] as const));
    const session = await spawnSession(join(folder, 'model.onnx'), { threads: 2 });
    close = () => session.close();
    model = new TextModel(session, loadTokenizer(new Map(files)));
  });
  afterAll(() => close());

  test('perplexity of the whole validation text is the 24.65 that PyTorch gives', { timeout: 240_000 }, async () => {
    const data = await textData(join(folder, 'valid.txt'), undefined);
    if (data.kind !== 'text') throw new Error('not text');
    const scores = await perplexity.judge(model, data.texts(), {});
    expect(scores).toHaveLength(149);
    expect(scores.reduce((sum, { weight }) => sum + weight, 0)).toBe(19_072);
    expect(metricValue(perplexity, scores)).toBeCloseTo(24.65, 2);
  });

  test('exact-match compares trimmed greedy answers', async () => {
    const references = JSON.parse(await readFile(join(folder, 'reference.json'), 'utf8')) as {
      prompt: string;
      greedy: string;
    }[];
    const [first, second] = references;
    const lines = [
      { prompt: first?.prompt, completion: ` ${first?.greedy}` },
      { prompt: second?.prompt, completion: 'something else' },
    ];
    const path = join(dir, 'two.jsonl');
    await writeFile(path, `${lines.map((line) => JSON.stringify(line)).join('\n')}\n`);
    const data = await textData(path, undefined);
    if (data.kind !== 'text') throw new Error('not text');
    // The reference answers are cut at 40 tokens, not ended; so only an answer that ends by itself can be equal.
    const wrong = { sum: 0, weight: 1 };
    expect(await exactMatch.judge(model, data.texts(), {})).toEqual([wrong, wrong]);
  });
});

describe('choosing', () => {
  const tensors = (label: unknown) =>
    ({
      kind: 'tensor',
      path: 'x',
      length: 1,
      async *samples() {
        yield { name: 'x', inputs: {}, label };
      },
    }) as const;
  test('by the data, where no metric is named', async () => {
    expect((await chooseMetric(undefined, tensors(undefined), undefined)).name).toBe('cosine');
    expect((await chooseMetric(undefined, tensors(3), undefined)).name).toBe('top1');
    expect((await chooseMetric(undefined, tensors('ab'), ['a'])).name).toBe('ctc-text');
    expect((await chooseMetric(undefined, await textData(join(folder, 'valid.txt'), 3), undefined)).name).toBe(
      'perplexity',
    );
  });
  test('a mistyped name gets the near one; a metric of the other kind is refused', async () => {
    await expect(chooseMetric('top-1', tensors(1), undefined)).rejects.toThrow('did you mean "top1"');
    await expect(chooseMetric('perplexity', tensors(1), undefined)).rejects.toThrow('judges text data');
    await expect(chooseMetric('ctc-text', tensors(1), undefined)).rejects.toMatchObject({ hint: /keys file/ });
  });
  test('a module is averaged; one that throws or gives no number is named', async () => {
    const path = join(dir, 'metric.mjs');
    await writeFile(
      path,
      'export default ({ y }) => { if (y.data[0] < 0) throw new Error("below"); return y.data[0] };',
    );
    const metric = await chooseMetric(path, tensors(1), undefined);
    if (metric.kind !== 'tensor') throw new Error('not tensors');
    const score = (y: number) => metric.score({ y: floats([1], [y]) }, { name: 'a', inputs: {} }, {});
    expect(metricValue(metric, [score(1), score(2)])).toBe(1.5);
    expect(() => score(-1)).toThrow('threw on a: below');
    expect(() => score(NaN)).toThrow('gave NaN for a');
    // What a promise is rejected with later must not end the process: Vitest fails a run that leaves one alone.
    await writeFile(join(dir, 'later.mjs'), 'export default async () => { throw "later" }');
    const later = await chooseMetric(join(dir, 'later.mjs'), tensors(1), undefined);
    if (later.kind !== 'tensor') throw new Error('not tensors');
    expect(() => later.score({}, { name: 'a', inputs: {} }, {})).toThrow('gave a promise for a');
    await writeFile(join(dir, 'broken.mjs'), 'export default 7');
    await expect(chooseMetric(join(dir, 'broken.mjs'), tensors(1), undefined)).rejects.toMatchObject({
      code: 'compiler/metric',
    });
  });
});

function floats(dims: number[], values: number[]): TensorValue & { dtype: 'float32' } {
  return { dtype: 'float32', dims, data: Float32Array.from(values) };
}

/** A map of 1 for '#', 0.2 for 'o', 0 else. */
function map(rows: readonly string[]): TensorValue & { dtype: 'float32' } {
  const values = rows.flatMap((row) => Array.from(row, (cell) => ({ '#': 1, o: 0.2 })[cell] ?? 0));
  return floats([1, 1, rows.length, rows[0]?.length ?? 0], values);
}
