import { cp, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compile, evaluate, inspect, loadModel, quantize } from '@flotilla/compiler';
import { buildModel, decodeModel, encodeModel, tensorFromFloats, tensorInfo, writeModel } from '@flotilla/onnx';
import { openPack } from '@flotilla/pack';
import { encodeNpz, openRuntime, openSession, type TensorValue } from '@flotilla/runtime';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const llama = 'test/fixtures/models/wordnet-llama-4m';
const intents = 'test/fixtures/models/adapters/intents-lora';
let dir = '';
let model = '';
let data = '';
let judge = '';
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'compile-'));
  model = join(dir, 'net.onnx');
  data = join(dir, 'data');
  await writeModel(classifier(), model);
  judge = join(dir, 'judge');
  for (const folder of [data, judge]) await mkdir(folder);
  const session = await openSession(model);
  for (let i = 0; i < 48; i++) {
    const x = floats([1, 64], (at) => Math.sin(at * (i + 1) * 0.37) + Math.cos(i));
    const { y } = await session.run({ x });
    const best = y?.dtype === 'float32' ? y.data.indexOf(Math.max(...y.data)) : -1;
    const label: TensorValue = { dtype: 'int64', dims: [1], data: BigInt64Array.of(BigInt(best)) };
    await writeFile(join(i < 24 ? data : judge, `${String(i).padStart(2, '0')}.npz`), encodeNpz({ x, label }));
  }
  await session.close();
});
afterAll(() => rm(dir, { recursive: true }));

test('a model becomes a pack that runs, with a verdict, and golden vectors that hold', async () => {
  const out = join(dir, 'net.pack');
  const steps = new Set<string>();
  const onProgress = ({ step }: { step: string }): unknown => steps.add(step);
  const report = await compile(model, out, { weights: 'int4', data, eval: judge, latencySeconds: 0.02, onProgress });
  expect(report.model).toEqual({ path: model, bytes: (await stat(model)).size, parameters: 64 * 96 + 96 + 96 * 10 });
  expect(report.verdict).toMatchObject({
    ...{ metric: 'top1', samples: 24, fp32: 1, floor: 0.98, candidates: 1 },
    splits: { calibrate: 24, choose: 0, judge: 24 },
  });
  const { interval, sqnrDb, kept } = report.verdict ?? {};
  expect(interval?.[0]).toBeLessThan(kept ?? 0);
  expect(interval?.[1]).toBeGreaterThan(kept ?? 1);
  expect(sqnrDb).toBeGreaterThan(10);
  expect(report.ratio).toBeLessThan(0.4);
  expect(report.nodes).toEqual({ quantized: 1, float: 1 });
  expect(report.float).toEqual([{ node: 'last', op: 'MatMul', reason: 'only 960 weights' }]);
  expect(report.latency?.quantized.p50Us).toBeGreaterThan(0);
  expect(report.latency?.cleanup?.p50Us).toBeGreaterThan(0);
  expect(report.memory?.quantized.weightsBytes).toBeLessThan(report.memory?.fp32.weightsBytes ?? 0);
  expect(steps).toEqual(new Set([...steps, 'load', 'convert-int4', 'evaluate', 'golden', 'latency', 'pack']));
  const pack = await openPack(out);
  expect(pack.digest).toBe(report.pack.digest);
  expect(pack.config).toMatchObject({ name: 'net', task: 'tensor', weights: 'int4', sourceBytes: report.model.bytes });
  expect(Object.keys(pack.config.golden?.tolerance ?? {}).toSorted()).toEqual(
    expect.arrayContaining(['arm64', 'arm64-dotprod']),
  );
  const inPack = JSON.parse(new TextDecoder().decode(await pack.file('report.json'))) as object;
  expect(inPack).toMatchObject({ verdict: report.verdict });
  expect(inPack).not.toHaveProperty('latency'); // the same inputs give the same pack
  await pack.close();
  expect((await inspect(out)).ops['DequantizeLinear']).toBe(1); // a pack can be looked into, too
  const runtime = await openRuntime(out);
  expect(await runtime.golden()).toMatchObject({ ok: true, cases: 2 });
  await runtime.close();
  expect((await readdir(dir)).filter((name) => name.startsWith('.'))).toEqual([]);
});

test('the same inputs give the same pack, wherever they lie', async () => {
  const metric = join(dir, 'always.mjs');
  await writeFile(metric, 'export default () => 1');
  const options = { weights: 'int4', data: `${data}:4`, latencySeconds: 0 };
  const one = await compile(model, join(dir, 'one.pack'), options);
  const there = `${dir} elsewhere`;
  await cp(model, join(there, 'net.onnx'));
  await cp(data, join(there, 'data'), { recursive: true });
  const two = await compile(join(there, 'net.onnx'), join(there, 'two.pack'), {
    ...options,
    data: `${join(there, 'data')}:4`,
  });
  await rm(there, { recursive: true });
  expect(two.pack.digest).toBe(one.pack.digest);
  const judged = await compile(model, join(dir, 'judged.pack'), { ...options, eval: `${judge}:2`, metric });
  expect(judged.verdict?.metric).toBe(metric);
  const pack = await openPack(join(dir, 'judged.pack'));
  const inPack = new TextDecoder().decode(await pack.file('report.json'));
  await pack.close();
  expect(inPack).toContain('"metric":"always.mjs"');
  expect(inPack).not.toContain(dir);
  expect(one.verdict).toBeNull();
  expect(one.warnings).toContainEqual(expect.stringContaining('4 samples are too few for three splits'));
  expect(one.objections).toEqual([expect.stringContaining('nothing was left to judge')]);
});

test('static int8 from the same data; the budget and keys travel in the pack', async () => {
  const keys = join(dir, 'keys.txt');
  await writeFile(keys, 'a\nb\n');
  const options = { data, eval: `${judge}:8`, metric: 'top1', latencyBudgetUs: { '*': 5000 }, keys, latencySeconds: 0 };
  const report = await compile(model, join(dir, 'int8'), options);
  expect(report.nodes.quantized).toBeGreaterThan(0);
  const pack = await openPack(join(dir, 'int8'));
  expect(pack.config.latencyBudgetUs).toEqual({ '*': 5000 });
  expect(pack.config.files.find(({ role }) => role === 'keys')?.path).toBe('keys.txt');
  await pack.close();
});

test('a verdict under the floor is told, and the pack is there to be looked at', async () => {
  const metric = join(dir, 'strict.mjs');
  await writeFile(metric, 'export default ({ y }, s, { y: ref }) => Number(y === ref || y.data[0] === ref.data[0])');
  const report = await compile(model, join(dir, 'bad.pack'), {
    weights: 'int4',
    eval: judge,
    metric,
    latencySeconds: 0,
  });
  expect(report.verdict).toMatchObject({ fp32: 1, ok: false });
  expect(report.objections).toEqual([expect.stringContaining('the floor is 98.0 %')]);
  expect((await stat(join(dir, 'bad.pack'))).isFile()).toBe(true);
});

test('what was calibrated on does not judge, even if it is given for both', async () => {
  const options = { weights: 'int4', data, eval: `${data}:8`, latencySeconds: 0 };
  const report = await compile(model, join(dir, 'same.pack'), options);
  expect(report.verdict).toBeNull();
  expect(report.warnings).toContainEqual(expect.stringContaining('all 8 samples to judge on were calibrated on'));
  const rest = await compile(model, join(dir, 'same.pack'), { ...options, data: `${data}:20`, eval: data });
  expect(rest.verdict).toMatchObject({ samples: 4, splits: { calibrate: 20, choose: 0, judge: 4 } });
});

test('a metric that throws: one line, nothing half-written', async () => {
  const metric = join(dir, 'throws.mjs');
  await writeFile(metric, 'export default () => { throw new Error("no such\\nthing") }');
  const before = await readdir(dir);
  const options = { weights: 'int4', eval: judge, metric, latencySeconds: 0 };
  await expect(compile(model, join(dir, 'thrown.pack'), options)).rejects.toMatchObject({
    code: 'compiler/metric',
    message: expect.stringMatching(/^.*throws\.mjs threw on 24\.npz: no such$/),
  });
  expect(await readdir(dir)).toEqual(before);
});

test('OUT.onnx gives the bare portable model', async () => {
  const out = join(dir, 'bare.onnx');
  const report = await compile(model, out, { weights: 'int4', latencySeconds: 0 });
  expect(report.pack).toMatchObject({ path: out, digest: null, bytes: (await stat(out)).size });
  const bare = decodeModel(await readFile(out));
  expect([...bare.graph.walk()].map(({ opType }) => opType)).toContain('DequantizeLinear');
});

describe('refusals leave nothing behind', () => {
  test.each<[string, object, string]>([
    ['no data for AWQ', { weights: 'int4', method: 'awq' }, 'compiler/calibration'],
    ['no data for GPTQ', { weights: 'int4', method: 'gptq' }, 'compiler/calibration'],
    ['a method that is none', { weights: 'int4', method: 'best' }, 'compiler/recipe'],
    ['a head that is none', { weights: 'int4', head: 'int2' }, 'compiler/recipe'],
    ['a head for int8', { weights: 'int8', head: 'int4' }, 'compiler/recipe'],
    ['a method for nf4', { weights: 'nf4', method: 'hqq' }, 'compiler/recipe'],
    ['a block for fp16', { weights: 'fp16', block: 32 }, 'compiler/recipe'],
    ['a block for int8', { weights: 'int8', block: 32 }, 'compiler/recipe'],
    ['a block of 33', { weights: 'int4', block: 33 }, 'compiler/recipe'],
    ['weights of int3', { weights: 'int3' }, 'compiler/recipe'],
    ['no data for static int8', { weights: 'int8', activations: 'int8' }, 'compiler/calibration'],
    ['data that is not there', { weights: 'int4', data: 'nowhere' }, 'compiler/data'],
    ['an unknown metric', { weights: 'int4', eval: 'DATA', metric: 'top2' }, 'compiler/metric'],
    ['an adapter that is not there', { weights: 'int4', lora: [{ dir: 'nowhere' }] }, 'checkpoint/missing'],
    ['an adapter for another model', { weights: 'int4', lora: [{ dir: intents }] }, 'compiler/lora-home'],
  ])('%s', async (_, options, code) => {
    const out = join(dir, 'refused.pack');
    const before = await readdir(dir);
    const given = JSON.parse(JSON.stringify(options).replace('DATA', data)) as object;
    await expect(compile(model, out, given)).rejects.toMatchObject({ code });
    expect(await readdir(dir)).toEqual(before);
  });
  test('a model that is quantized already; a folder that cannot be written', async () => {
    await expect(compile(join(dir, 'bare.onnx'), join(dir, 'again.pack'))).rejects.toMatchObject({
      code: 'compiler/not-yet',
      hint: 'compile the fp32 model',
    });
    await expect(compile(join(dir, 'net.pack'), join(dir, 'again.pack'))).rejects.toThrow('is a pack');
    await expect(compile(model, join(dir, 'no/such/folder.pack'), { weights: 'int4' })).rejects.toMatchObject({
      code: 'compiler/output',
    });
  });
  test.each([
    ['of the wrong shape', { x: floats([1, 63], Math.sin) }, 'x is [1, 63], the model takes [batch, 64]'],
    ['with NaN', { x: floats([1, 64], (i) => (i === 7 ? NaN : i)) }, 'x[7] is not a finite number'],
  ])('#23 a sample to judge on %s, named', async (_, inputs, what) => {
    const bad = join(dir, 'bad.npz');
    await writeFile(bad, encodeNpz(inputs));
    const before = await readdir(dir);
    const options = { weights: 'int4', eval: bad, latencySeconds: 0 };
    await expect(compile(model, join(dir, 'refused.pack'), options)).rejects.toMatchObject({
      code: 'compiler/data',
      message: `${bad}: ${what}`,
    });
    expect(await readdir(dir)).toEqual(before);
  });
  test('an aborted compilation', async () => {
    const before = await readdir(dir);
    const abort = new AbortController();
    const onProgress = ({ step }: { step: string }): void => {
      if (step === 'golden') abort.abort(new Error('interrupted'));
    };
    const options = { weights: 'int4', data, signal: abort.signal, onProgress };
    await expect(compile(model, join(dir, 'aborted.pack'), options)).rejects.toThrow();
    expect(await readdir(dir)).toEqual(before);
  });
});

test('a language model with its adapter: int4, exact answers, in a pack that generates', async () => {
  const out = join(dir, 'commands.pack');
  const options = { weights: 'int4', lora: [{ dir: intents }], eval: join(intents, 'eval.json:12'), latencySeconds: 0 };
  const report = await compile(llama, out, options);
  expect(report.ratio).toBeLessThan(0.2);
  expect(report.verdict).toMatchObject({ metric: 'exact-match', samples: 12, fp32: 1, quantized: 1, ok: true });
  expect(report.objections).toEqual([]);
  const { language, sqnrDb } = report.verdict ?? {};
  expect(language?.kld.mean).toBeGreaterThan(0);
  expect(language?.kld.mean).toBeLessThan(0.05);
  expect(language?.sameTopPercent).toBeGreaterThan(90);
  expect(sqnrDb).toBeGreaterThan(15);
  const runtime = await openRuntime(out);
  expect(await runtime.golden()).toMatchObject({ ok: true });
  // Both classes' logits are of the same tokens; a quarter would be the most that is ever allowed.
  expect(runtime.pack.config.golden?.tolerance['arm64']?.rtol).toBeLessThan(0.2);
  const { text } = await runtime.text().generate('kindly switch off the space heater in the attic =>');
  expect(JSON.parse(text)).toEqual({ intent: 'off', device: 'heater', room: 'attic' });
  await runtime.close();
  const scored = await evaluate(out, { data: join(intents, 'eval.json:4'), against: llama });
  expect(scored).toMatchObject({ metric: 'exact-match', samples: 4, value: 1, against: 0 });
}, 120_000);

test('inspect: operators, parameters, layers, distributions, and what int4 would save', async () => {
  const report = await inspect(llama);
  expect(report.ops['MatMul']).toBe(37);
  expect(report.opset).toBe(17);
  expect(report.inputs[0]).toMatchObject({ name: 'input_ids', dtype: 'int64' });
  const [embedding] = report.tensors;
  expect(embedding).toMatchObject({ shape: [2048, 256], dtype: 'float32', bytes: 2048 * 256 * 4 });
  expect(embedding?.histogram.reduce((a, b) => a + b, 0)).toBe(2048 * 256);
  expect(embedding?.sqnrDb.int8).toBeGreaterThan(30);
  expect(embedding?.sqnrDb.int4).toBeGreaterThan(15);
  expect(report.layers.find(({ layer }) => layer === 'model/layers.0/mlp/up_proj')?.bytes).toBe(256 * 704 * 4);
  const saved = report.plan.reduce((sum, { saves }) => sum + saves, 0);
  expect(saved / report.bytes).toBeGreaterThan(0.8);
  expect(report.plan.find(({ node }) => node === '/model/Gather')).toMatchObject({ format: null });
  expect(report.plan.find(({ node }) => node === '/lm_head/MatMul')).toMatchObject({ format: 'int8' });
});

test('the guide’s few lines: load, quantize, run', async () => {
  const quantized = await quantize(await loadModel(model), { bits: 4 });
  const path = join(dir, 'guide.onnx');
  await writeFile(path, encodeModel(quantized));
  const session = await openSession(path);
  const { y } = await session.run({ x: floats([1, 64], Math.sin) });
  expect(y?.dims).toEqual([1, 10]);
  await session.close();
  const dynamic = await quantize(await loadModel(model), { bits: 8 });
  expect(encodeModel(dynamic).length).toBeLessThan((await stat(model)).size / 2);
});

function classifier(): ReturnType<typeof buildModel> {
  let state = 3;
  const next = (): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 31 - 1;
  };
  const noise = (dims: number[]) =>
    tensorFromFloats(dims, Array.from({ length: dims.reduce((a, b) => a * b, 1) }, next));
  return buildModel({
    name: 'net',
    opset: 17,
    inputs: [tensorInfo('x', 'float32', ['batch', 64])],
    outputs: [tensorInfo('y', 'float32', ['batch', 10])],
    nodes: [
      { opType: 'MatMul', inputs: ['x', 'w1'], outputs: ['a'], name: 'first' },
      { opType: 'Add', inputs: ['a', 'b1'], outputs: ['b'] },
      { opType: 'Relu', inputs: ['b'], outputs: ['c'] },
      { opType: 'MatMul', inputs: ['c', 'w2'], outputs: ['y'], name: 'last' },
    ],
    initializers: { w1: noise([64, 96]), b1: noise([96]), w2: noise([96, 10]) },
  });
}

function floats(dims: number[], value: (index: number) => number): TensorValue & { dtype: 'float32' } {
  const length = dims.reduce((a, b) => a * b, 1);
  return { dtype: 'float32', dims, data: Float32Array.from({ length }, (_, i) => value(i)) };
}
