import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openAdapter } from '@flotilla/checkpoint';
import { compile } from '@flotilla/compiler';
import { addBranches } from '@flotilla/lowering';
import { cloneModel, type Model, openModel, writeModel } from '@flotilla/onnx';
import { createPack, openPack, readAdapter, writeAdapter } from '@flotilla/pack';
import { branchesOf, openRuntime, openSession, type Runtime } from '@flotilla/runtime';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { branchParts, planBranches } from '../src/lora/branch.ts';
import { NO_MAP } from '../src/lora/lora-map.ts';
import { mergeLora } from '../src/lora/merge.ts';

let dir = '';
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'branch-'));
});
afterAll(() => rm(dir, { recursive: true }));

describe('a branch beside the layers', () => {
  const fixtures = 'test/fixtures/lora';

  test.each(['plain', 'rslora', 'dora', 'patterns', 'lora-bias', 'embedding'])(
    'computes what merging %s would',
    async (name) => {
      const base = await openModel(join(fixtures, 'tiny.onnx'));
      const adapter = await openAdapter(join(fixtures, 'adapters', name));
      const merged = cloneModel(base);
      mergeLora(merged.graph, [{ adapter, weight: 0.75 }]);
      const parts = branchParts(planBranches(base.graph, { adapter, weight: 0.75 }, NO_MAP), {
        cleaned: base,
        model: base,
      });
      const file = writeAdapter({ name, model: '', parts });
      expect(readAdapter(file).parts).toEqual(parts);
      const branched = cloneModel(base);
      addBranches(branched, branchesOf([file]));
      const [plain, expected] = [await answer(base), await answer(merged)];
      expect(distance(await answer(branched, [file], name), expected)).toBeLessThan(2e-3 * largest(expected));
      expect(distance(plain, expected)).toBeGreaterThan(1e-2 * largest(expected));
      expect(await answer(branched, [file])).toEqual(plain);
    },
  );

  test.each([
    ['saved-modules', 'is trained whole'],
    ['tokens', 'is trained whole'],
    ['convolutions', 'is a convolution'],
  ])('#34 cannot carry %s, and says so', async (name, problem) => {
    const base = await openModel(join(fixtures, 'tiny.onnx'));
    const adapter = await openAdapter(join(fixtures, 'adapters', name));
    expect(() => planBranches(base.graph, { adapter }, NO_MAP)).toThrow(
      expect.objectContaining({ code: 'compiler/lora-branch', message: expect.stringContaining(problem) }),
    );
  });

  test('refuses a layer that the recipe turned', async () => {
    const base = await openModel(join(fixtures, 'tiny.onnx'));
    const adapter = await openAdapter(join(fixtures, 'adapters', 'plain'));
    const other = cloneModel(base);
    mergeLora(other.graph, [{ adapter }]);
    const plans = planBranches(base.graph, { adapter }, NO_MAP);
    expect(() => branchParts(plans, { cleaned: other, model: other })).toThrow(
      expect.objectContaining({ code: 'compiler/lora-branch' }),
    );
  });

  async function answer(model: Model, adapters: readonly Uint8Array[] = [], adapter?: string): Promise<Float32Array> {
    const path = join(dir, 'tiny.onnx');
    await writeModel(model, path);
    const session = await openSession(path, { adapters });
    if (adapter !== undefined) session.use(adapter);
    const [input] = session.inputs;
    const ids = { dtype: 'int64', dims: [1, 6], data: BigInt64Array.of(1n, 4n, 2n, 7n, 3n, 5n) } as const;
    const outputs = await session.run({ [input?.name ?? '']: ids });
    await session.close();
    const [output] = Object.values(outputs);
    if (output?.dtype !== 'float32') throw new Error('no floats');
    return output.data;
  }
});

describe('a pack with two adapters beside an int4 base', () => {
  const llama = 'test/fixtures/models/wordnet-llama-4m';
  const adapters = 'test/fixtures/models/adapters';
  const prompt = 'please switch off the kitchen radiator =>';
  const command = ' {"intent":"off","device":"heater","room":"kitchen"}';
  const options = { weights: 'int4', method: 'rtn', loraMode: 'branch', latencySeconds: 0, floor: 0, boards: ['host'] };
  let path = '';
  let runtime: Runtime;
  beforeAll(async () => {
    path = join(dir, 'commands.pack');
    const lora = ['intents-lora', 'intents-dora'].map((name) => ({ dir: join(adapters, name) }));
    const report = await compile(llama, path, { ...options, lora });
    expect(report.adapters).toMatchObject([
      { name: 'intents-lora', modules: 28, rank: 16, verdict: null },
      { name: 'intents-dora', modules: 20, rank: 8, verdict: null },
    ]);
    runtime = await openRuntime(path);
  }, 120_000);
  afterAll(() => runtime.close());

  test('holds the very model of a pack without any', async () => {
    const alone = join(dir, 'base.pack');
    await compile(llama, alone, { ...options, name: 'base' });
    const packs = [await openPack(path), await openPack(alone)];
    const models = packs.map(({ config }) => config.files.find(({ role }) => role === 'model')?.digest);
    expect(models[0]).toBe(models[1]);
    const [pack] = packs;
    const factors = pack?.config.files.find((file) => file.path === 'adapters/intents-lora.safetensors');
    const extra = pack?.config.files.filter(({ role }) => role === 'golden' || role === 'report') ?? [];
    expect((factors?.bytes ?? Infinity) / (2 * 299_008)).toBeLessThan(1.02);
    expect(extra.reduce((sum, { bytes }) => sum + bytes, 0)).toBeLessThan(50_000);
    for (const one of packs) await one.close();
  }, 120_000);

  test('answers with the one that a request names, the base with none', async () => {
    const text = runtime.text();
    const ask = async (adapter?: string | null): Promise<string> =>
      (await text.generate(prompt, { adapter, maxTokens: 40 })).text;
    expect(await ask('intents-lora')).toBe(command);
    expect(await ask()).not.toBe(command);
    expect(await ask('intents-dora')).toBe(command);
    runtime.session.use('intents-lora');
    expect(await ask()).toBe(command);
    expect(await ask(null)).not.toBe(command);
    runtime.session.use(null);
    expect(await runtime.golden()).toMatchObject({ ok: true, cases: 3 });
  });

  test('1,000 switches load nothing and leave nothing behind', async () => {
    const text = runtime.text();
    const names = ['intents-lora', 'intents-dora', null];
    const turn = (i: number) => text.generate('fan =>', { adapter: names[i % 3], maxTokens: 1 });
    for (let i = 0; i < 300; i++) await turn(i); // V8 and ONNX Runtime fill their pools once
    const before = await runtime.session.memory();
    for (let i = 0; i < 1000; i++) await turn(i);
    const after = await runtime.session.memory();
    expect((after.privateBytes ?? 0) - (before.privateBytes ?? 0)).toBeLessThan(32e6);
  }, 60_000);

  test('#34 an adapter that is not there, and one of another base, are refused', async () => {
    const unknown = expect.objectContaining({ code: 'runtime/adapter', message: expect.stringContaining('"fans"') });
    await expect(runtime.text().generate(prompt, { adapter: 'fans' })).rejects.toEqual(unknown);
    expect(() => runtime.session.use('fans')).toThrow(unknown);
    const pack = await openPack(path);
    const files = await Promise.all(
      pack.config.files.map(async (file) => {
        const bytes = await pack.file(file.path);
        const moved =
          file.role === 'adapter' ? { ...readAdapter(bytes), model: `sha256:${'0'.repeat(64)}` } : undefined;
        return { path: file.path, role: file.role, source: moved ? writeAdapter(moved) : bytes };
      }),
    );
    const other = join(dir, 'other.pack');
    await createPack(other, { ...pack.config, files });
    await pack.close();
    await expect(openRuntime(other)).rejects.toThrow(expect.objectContaining({ code: 'runtime/adapter' }));
  });

  test.each([
    ['a budget', { budget: ['size=1MB'] }],
    ['a method that scales channels', { method: 'awq' }],
    ['an unknown mode', { loraMode: 'beside' }],
  ])('#34 %s does not go with it', async (_, more) => {
    const lora = [{ dir: join(adapters, 'intents-lora') }];
    await expect(compile(llama, join(dir, 'no.pack'), { ...options, lora, ...more })).rejects.toThrow(
      expect.objectContaining({ code: 'compiler/lora-branch' }),
    );
  });
});

function largest(values: Float32Array): number {
  return values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
}

function distance(a: Float32Array, b: Float32Array): number {
  return a.reduce((most, value, i) => Math.max(most, Math.abs(value - (b[i] ?? 0))), 0);
}
