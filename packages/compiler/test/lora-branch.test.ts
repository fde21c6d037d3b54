import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openAdapter } from '@flotilla/checkpoint';
import { applyRecipe, compile, type CompileOptions, loadModel, recipeOf } from '@flotilla/compiler';
import { addBranches, rebuildModel as rebuildGraph } from '@flotilla/lowering';
import {
  buildModel,
  cloneModel,
  type Model,
  type NewNode,
  type NewTensor,
  openModel,
  tensorFromFloats,
  tensorInfo,
  writeModel,
} from '@flotilla/onnx';
import { createPack, openPack, readAdapter, writeAdapter } from '@flotilla/pack';
import { branchesOf, decoderFeeds, openRuntime, openSession, rebuildModel, type Runtime } from '@flotilla/runtime';
import { quantizeInt8 } from '@flotilla/quant';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { checkBase } from '../src/compile/check-base.ts';
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

  test.each(['plain', 'rslora', 'dora', 'patterns', 'embedding'])('%s goes into the weights, too', async (name) => {
    const base = await openModel(join(fixtures, 'tiny.onnx'));
    const adapter = await openAdapter(join(fixtures, 'adapters', name));
    const merged = cloneModel(base);
    mergeLora(merged.graph, [{ adapter }]);
    const plans = planBranches(base.graph, { adapter }, NO_MAP);
    const rebuilt = cloneModel(base);
    rebuildGraph(rebuilt, branchParts(plans, { cleaned: base, model: base }, 'merged'));
    const expected = await answer(merged);
    expect(distance(await answer(rebuilt), expected)).toBeLessThan(2e-3 * largest(expected));
  });

  test('#34 but not a bias', async () => {
    const base = await openModel(join(fixtures, 'tiny.onnx'));
    const adapter = await openAdapter(join(fixtures, 'adapters', 'lora-bias'));
    const plans = planBranches(base.graph, { adapter }, NO_MAP);
    expect(() => branchParts(plans, { cleaned: base, model: base }, 'merged')).toThrow(
      expect.objectContaining({ code: 'compiler/lora-branch', message: expect.stringContaining('trains a bias') }),
    );
  });

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

  test('holds the very model that the recipe alone makes of the base', async () => {
    const alone = join(dir, 'base.onnx');
    const { model } = await applyRecipe(await loadModel(llama), await recipeOf(options));
    await writeModel(model, alone, { externalData: 'inline' });
    const { files } = runtime.pack.config;
    expect(files.find(({ role }) => role === 'model')?.digest).toBe(await digestOf(alone));
    const factors = files.find((file) => file.path === 'adapters/intents-lora.safetensors');
    const extra = files.filter(({ role }) => role === 'golden' || role === 'report');
    expect((factors?.bytes ?? Infinity) / (2 * 299_008)).toBeLessThan(1.02);
    expect(extra.reduce((sum, { bytes }) => sum + bytes, 0)).toBeLessThan(50_000);
  }, 120_000);

  test('is a base that a device can merge an adapter into: the same bytes, from the same factors', async () => {
    const lora = [{ dir: join(adapters, 'intents-lora') }];
    const rebuild = { ...options, method: undefined, loraMode: 'rebuild', basePack: path, lora };
    const rebuilt = join(dir, 'rebuilt.pack');
    const report = await compile(llama, rebuilt, rebuild);
    const { files } = runtime.pack.config;
    const base = files.find(({ role }) => role === 'model');
    expect(report).toMatchObject({ rebuild: { base: base?.digest, modules: 28, rank: 16 }, nodes: { quantized: 30 } });
    expect(report.requantization?.worst.snrDb).toBeGreaterThan(15);
    const pack = await openPack(rebuilt);
    const [basePath, factorsPath, outPath] = ['device.onnx', 'device.safetensors', 'made.onnx'].map((name) =>
      join(dir, name),
    ) as [string, string, string];
    await runtime.pack.extract('model.onnx', basePath);
    await pack.extract('rebuild.safetensors', factorsPath);
    await rebuildModel({ basePath, factorsPath, outPath });
    expect(pack.config.files.find(({ role }) => role === 'model')?.digest).toBe(await digestOf(outPath));
    expect(await pack.file('rebuild.safetensors')).toEqual(
      await runtime.pack.file('adapters/intents-lora.safetensors'),
    );
    const own = await openRuntime(pack);
    expect((await own.text().generate(prompt, { maxTokens: 40 })).text).toBe(command);
    await own.close();
    await pack.close();
    await writeFile(factorsPath, 'x');
    await expect(rebuildModel({ basePath, factorsPath, outPath })).rejects.toThrow(
      expect.objectContaining({ code: 'runtime/rebuild', message: expect.stringContaining('adapter') }),
    );
  }, 240_000);

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
    const { session } = runtime;
    const names = ['intents-lora', 'intents-dora', null] as const;
    const feeds = decoderFeeds(session.inputs, [3], 0);
    const turn = (i: number) => session.run(feeds, { adapter: names[i % 3], fetches: ['logits'] });
    for (let i = 0; i < 300; i++) await turn(i); // V8 and ONNX Runtime fill their pools once
    const before = await session.memory();
    for (let i = 0; i < 1000; i++) await turn(i);
    const after = await session.memory();
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

  test('#34 a recipe of the user that turns channels is refused before anything is read', async () => {
    const recipe = join(dir, 'own.yaml');
    const text = (when: string) => `name: own\npasses:\n  - pass: rotate-residual\n    when: ${when}\n`;
    await writeFile(recipe, text('auto'));
    const made = compile('no such model', join(dir, 'no.pack'), { loraMode: 'branch', recipe });
    await expect(made).rejects.toMatchObject({
      code: 'compiler/lora-branch',
      message: expect.stringContaining('rotate-residual changes the channels'),
    });
    await writeFile(recipe, text('never'));
    expect((await recipeOf({ loraMode: 'branch', recipe })).passes).toHaveLength(1);
  });

  const other = { dir: join(adapters, 'intents-dora') };
  test.each<[string, CompileOptions, string]>([
    ['no base', { basePack: undefined }, '--base-pack is missing'],
    ['another mode', { loraMode: 'branch' }, '--base-pack belongs to'],
    ['two adapters', { lora: [other, other] }, 'one adapter is merged on the device, not 2'],
    ['a method', { method: 'rtn' }, '--method is as the base pack has it'],
    ['a cache', { kvCache: 'int8' }, '--kv-cache is as the base pack has it'],
    ['a budget', { budget: ['size=1MB'] }, 'a budget searches'],
    ['a layout without a pack', { layout: 'transformers' }, 'only a pack has room'],
  ])('#34 %s is no way to rebuild', async (_, more, message) => {
    const rebuild = { loraMode: 'rebuild', basePack: path, lora: [other], ...more };
    await expect(compile(llama, join(dir, 'no.pack'), rebuild)).rejects.toThrow(
      expect.objectContaining({ code: 'compiler/lora-rebuild', message: expect.stringContaining(message) }),
    );
  });

  test.each([
    ['that does not tell how it was compiled', 'does not tell how', undefined],
    ['whose model lies in several files', 'lies in several files', 'model-data'],
  ])('#34 a pack %s is no base', async (_, message, role) => {
    const { pack } = runtime;
    const kept = pack.config.files.filter((file) => role !== undefined || file.role !== 'report');
    const files = await Promise.all(
      kept.map(async (file) => ({ path: file.path, role: file.role, source: await pack.file(file.path) })),
    );
    const more = role === undefined ? [] : [{ path: 'model.data', role, source: new Uint8Array(8) }];
    const basePack = join(dir, `${role ?? 'mute'}.pack`);
    await createPack(basePack, { ...pack.config, files: [...files, ...more] });
    await expect(
      compile(llama, join(dir, 'no.pack'), { loraMode: 'rebuild', basePack, lora: [other] }),
    ).rejects.toThrow(
      expect.objectContaining({ code: 'compiler/lora-rebuild', message: expect.stringContaining(message) }),
    );
  });

  test('#34 a pack of another model is no base', async () => {
    const lora = [{ dir: 'test/fixtures/lora/adapters/plain' }];
    const rebuild = { loraMode: 'rebuild', basePack: path, lora };
    await expect(compile('test/fixtures/lora/tiny.onnx', join(dir, 'no.pack'), rebuild)).rejects.toThrow(
      expect.objectContaining({ code: 'compiler/lora-rebuild', message: expect.stringContaining('it has no layer') }),
    );
  });
});

test.each([0.7, 1])(
  '#34 layers with other weights than the base pack has are refused (%d of them the same)',
  (share) => {
    const w = Float32Array.from({ length: 64 * 32 }, (_, i) => Math.sin(i));
    const float = productModel({ w: tensorFromFloats([64, 32], w) }, []);
    const { q, scale } = quantizeInt8(w, 32, { inner: 1 });
    const other = q.map((level, i) => (i < share * q.length ? level : -level));
    const quantized = productModel(
      {
        q: { dtype: 'int8', dims: [64, 32], bytes: new Uint8Array(other.buffer) },
        scale: tensorFromFloats([32], scale),
      },
      [{ opType: 'DequantizeLinear', inputs: ['q', 'scale'], outputs: ['w'], attributes: { axis: { int: 1 } } }],
    );
    const check = () => checkBase('base.pack', float, quantized, []);
    if (share === 1) expect(check).not.toThrow();
    else expect(check).toThrow(expect.objectContaining({ code: 'compiler/lora-rebuild' }));
  },
);

function productModel(initializers: { readonly [name: string]: NewTensor }, nodes: readonly NewNode[]): Model {
  return buildModel({
    opset: 21,
    inputs: [tensorInfo('x', 'float32', [1, 64])],
    outputs: [tensorInfo('y', 'float32', [1, 32])],
    nodes: [...nodes, { name: 'layer', opType: 'MatMul', inputs: ['x', 'w'], outputs: ['y'] }],
    initializers,
  });
}

async function digestOf(file: string): Promise<string> {
  return `sha256:${createHash('sha256')
    .update(await readFile(file))
    .digest('hex')}`;
}

function largest(values: Float32Array): number {
  return values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
}

function distance(a: Float32Array, b: Float32Array): number {
  return a.reduce((most, value, i) => Math.max(most, Math.abs(value - (b[i] ?? 0))), 0);
}
