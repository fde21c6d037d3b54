import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compare, compile } from '@flotilla/compiler';
import { writeModel } from '@flotilla/onnx';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { reportData } from './report-data.ts';
import { twoProducts } from './small-models.ts';

let dir = '';
let model = '';
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'compare-'));
  model = join(dir, 'net.onnx');
  await writeModel(twoProducts(), model);
});
afterAll(() => rm(dir, { recursive: true }));

test('compare shows a model beside its pack: size, nodes, formats, and how far each weight moved', async () => {
  const pack = join(dir, 'net.pack');
  const made = await compile(model, pack, { weights: 'int4', boards: ['host'], latencySeconds: 0 });
  const { a, b, ratio, latency, tensors } = await compare(model, pack, { seconds: 0.02 });
  expect(a).toMatchObject({ kind: 'model', verdict: null, formats: { float32: { nodes: 2 } } });
  expect(b).toMatchObject({ kind: 'pack', recipe: 'int4', nodes: made.nodes, modelBytes: made.pack.modelBytes });
  expect(ratio).toBeCloseTo(made.ratio, 12);
  expect(latency?.speedup).toBeGreaterThan(0);
  // `last` has too few weights to be converted, and is the same in both.
  const first = { node: 'first', op: 'MatMul', a: { format: 'float32', bytes: 64 * 96 * 4 } };
  expect(tensors).toMatchObject([{ ...first, b: { format: 'uint4 block 32' } }]);
  // Blocks of 4 bits keep about 20 dB; a scale read along the wrong axis would keep none.
  expect(tensors[0]?.sqnrDb).toBeGreaterThan(18);
  expect(tensors[0]?.sqnrDb).toBeLessThan(30);
  expect((await compare(pack, pack, { seconds: 0 })).tensors).toEqual([]);
});

test('compare takes two reports of compile --json', async () => {
  const [one, two] = [join(dir, 'one.json'), join(dir, 'two.json')];
  const { report } = reportData();
  await writeFile(one, JSON.stringify(report));
  await writeFile(two, JSON.stringify({ ...report, pack: { ...report.pack, modelBytes: 1_350_000 } }));
  const { a, b, ratio, latency } = await compare(one, two);
  expect(a).toMatchObject({ kind: 'report', recipe: 'int8', verdict: { kept: 0.986 }, p50Us: 10_000 });
  expect(b.modelBytes).toBe(1_350_000);
  expect(ratio).toBe(0.5);
  expect(latency).toEqual({ speedup: 1, interval: null });
});

test.each([
  ['no JSON', '{', 'is not JSON'],
  ['null', 'null', 'is no report of compile'],
  ['another JSON', '{"pack":{"modelBytes":"12"}}', 'is no report of compile'],
])('compare refuses %s by name', async (_, content, words) => {
  const path = join(dir, 'bad.json');
  await writeFile(path, content);
  await expect(compare(model, path)).rejects.toMatchObject({
    code: 'compiler/data',
    message: expect.stringContaining(words) as string,
  });
});
