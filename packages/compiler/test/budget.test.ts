import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compile } from '@flotilla/compiler';
import { buildModel, tensorFromFloats, tensorInfo, writeModel } from '@flotilla/onnx';
import { encodeNpz, openSession, type TensorValue } from '@flotilla/runtime';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { explain } from '../src/budget/budget-report.ts';
import { choosePoint, levelBases, paretoFront } from '../src/budget/choose.ts';
import { FLOAT, FORMATS } from '../src/budget/formats.ts';
import { withLevels } from '../src/budget/levels.ts';
import type { Candidate, Point } from '../src/budget/measure.ts';
import { type Limit, parseBudget } from '../src/budget/parse-budget.ts';
import type { Choice } from '../src/budget/sensitivity.ts';
import { fill, sweep } from '../src/budget/sweep.ts';
import { seededRandom } from '../src/calibrate/seeded-random.ts';

describe('a budget', () => {
  test.each([
    ['size=4MB', { key: 'size', value: 4e6 }],
    ['size=2MiB', { key: 'size', value: 2 * 1024 ** 2 }],
    ['accuracy=0.98', { key: 'accuracy', value: 0.98 }],
    ['accuracy=98%', { key: 'accuracy', value: 0.98 }],
    ['latency=12ms', { key: 'latency', value: 12_000 }],
  ])('%s', (text, limit) => expect(parseBudget(text)).toEqual({ ...limit, value: expect.closeTo(limit.value) }));
  test.each([
    ['4MB', 'is not KEY=VALUE'],
    ['sise=4MB', 'did you mean "size"'],
    ['size=4', 'has no unit of size: B, kB'],
    ['accuracy=1.5', 'asks for what cannot be'],
    ['latency=0ms', 'asks for what cannot be'],
  ])('#23 %s is refused in words', (text, message) => expect(() => parseBudget(text)).toThrow(message));
});

describe('bit allocation', () => {
  const [, int8, int4] = FORMATS;
  if (!int8 || !int4) throw new Error('formats');
  /** One unit of 800 bytes: float, a quarter, an eighth. */
  const unit = (noise8: number, noise4: number): Choice[] => [
    { format: FLOAT, bytes: 2400, noise: 0 },
    { format: int8, bytes: 1800, noise: noise8 },
    { format: int4, bytes: 1700, noise: noise4 },
  ];
  const table = [unit(0.01, 0.02), unit(0.5, 5), unit(0.001, 0.9)];
  const plans = sweep(table);
  test('from everything small to everything float, each step the cheapest', () => {
    expect(plans[0]).toMatchObject({ picks: [2, 2, 2], bytes: 300 });
    expect(plans.at(-1)).toMatchObject({ picks: [0, 0, 0], bytes: 2400, noise: 0 });
    for (const [i, plan] of plans.entries()) expect(plan.noise).toBeLessThan(plans[i - 1]?.noise ?? Infinity);
  });
  test('the sensitive unit gets the bytes', () => {
    expect(fill(table, plans, 1000)?.picks).toEqual([1, 1, 1]);
    expect(fill(table, plans, 1100)?.picks).toEqual([2, 0, 1]);
    expect(fill(table, plans, 200)).toBeUndefined();
  });
});

describe('the choice', () => {
  const point = (name: string, bytes: number, kept: number, noise = 0.1, inFloats = 0): Point => ({
    ...{ name, bytes, kept, noise, inFloats, score: kept, single: false, p50Us: bytes },
  });
  const small = point('small', 100, 0.9);
  const middle = point('middle', 200, 0.97);
  const same = point('same', 300, 0.97, 0.05);
  const big = point('big', 400, 0.99);
  const worse = point('worse', 500, 0.98);
  const all = [big, worse, middle, same, small] as const;
  test('the front: what no other beats, the closer of two that keep the same', () => {
    expect(paretoFront(all).map(({ name }) => name)).toEqual(['small', 'middle', 'same', 'big']);
  });
  test.each([
    [['size=300B'], 'same', true],
    [['accuracy=0.95'], 'middle', true],
    [['accuracy=0.95', 'size=450B'], 'big', true],
    [['latency=0.25ms'], 'middle', true],
    [['size=50B'], 'small', false],
    [['accuracy=1'], 'big', false],
  ])('%s: %s', (budget, name, met) => {
    expect(choosePoint(all, budget.map(parseBudget))).toEqual({ point: expect.objectContaining({ name }), met });
  });
});

describe('accuracy levels', () => {
  const units = ['a', 'b', 'c', 'd'].map((name) => ({ nodes: [name] }));
  const [, int8, int4] = FORMATS;
  const passes = [int8?.step(['d'], 'auto'), int4?.step(['a', 'b', 'c'], 'auto')].filter((step) => step !== undefined);
  const base = { name: 'base', recipe: { name: 'mixed', passes }, isSingle: false };
  const floatsOf = ({ recipe }: Candidate): unknown =>
    recipe.passes.map(({ options }) => (options as { floatActivations: unknown }).floatActivations);
  test('float activations where 8 bits lose most: half of the loss, all of it; not where weights have 8 bits', () => {
    const made = withLevels(base, units, [0.1, 0.5, 0, 9]);
    expect(made.map(({ name, levelsOf }) => [name, levelsOf])).toEqual([
      ['base, 1 nodes with float activations', 'base'],
      ['base, 2 nodes with float activations', 'base'],
    ]);
    expect(made.map(floatsOf)).toEqual([
      [['b'], ['b']],
      [
        ['b', 'a'],
        ['b', 'a'],
      ],
    ]);
    expect(withLevels(base, units, [0, 0, 0, 9])).toEqual([]);
  });

  const point = (name: string, kept: number, inFloats: number, levelsOf?: string): Point => ({
    ...{ name, bytes: 100, kept, noise: 1 - kept, inFloats, score: kept, single: false, p50Us: null },
    ...(levelsOf !== undefined && { levelsOf }),
  });
  const plain = point('plain', 0.98, 0);
  const half = point('half', 0.982, 0.5, 'plain');
  const worth = point('worth', 0.99, 1, 'plain');
  test('are on the front beside what is faster, and taken only where they bring what they cost', () => {
    expect(paretoFront([plain, half, worth]).map(({ name }) => name)).toEqual(['plain', 'half', 'worth']);
    expect(paretoFront([plain, point('useless', 0.98, 1)])).toEqual([plain]);
    const limits = [parseBudget('size=1kB')];
    expect(choosePoint([plain, half], limits).point).toBe(plain);
    expect(choosePoint([plain, half, worth], limits).point).toBe(worth);
    expect(choosePoint([plain, worth], [parseBudget('accuracy=0.985')]).point).toBe(worth);
  });
  test('are explained: what the level in question came to', () => {
    const points = [plain, half];
    const limits = [parseBudget('size=1kB')];
    expect(explain(plain, { points, limits, met: true })).toContain(
      'with float activations (accuracy_level 1) in 50.0 % of its 4-bit products 98.2 %, noise 0.0180',
    );
    expect(explain(half, { points, limits, met: true })).toContain('(accuracy_level 4) 98.0 %, noise 0.0200');
  });
  test('are tried on the point that would be taken, and on a smaller one that just keeps too little', () => {
    const bigger = { ...point('bigger', 0.999, 0), bytes: 200 };
    expect(levelBases([plain, bigger], [parseBudget('accuracy=0.99')])).toEqual([bigger, plain]);
    expect(levelBases([plain, bigger], limits('size=150B'))).toEqual([plain]);
  });
});

const limits = (...texts: readonly string[]): readonly Limit[] => texts.map(parseBudget);

describe('a search', () => {
  let dir = '';
  let model = '';
  let data = '';
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'budget-'));
    [model, data] = [join(dir, 'net.onnx'), join(dir, 'data')];
    await writeModel(classifier(), model);
    await mkdir(data);
    const session = await openSession(model);
    for (let i = 0; i < 96; i++) {
      const random = seededRandom(i + 1);
      const x: TensorValue = {
        dtype: 'float32',
        dims: [1, 64],
        data: Float32Array.from({ length: 64 }, () => random() - 0.5),
      };
      const { y } = await session.run({ x });
      const best = y?.dtype === 'float32' ? y.data.indexOf(Math.max(...y.data)) : -1;
      const label: TensorValue = { dtype: 'int64', dims: [1], data: BigInt64Array.of(BigInt(best)) };
      await writeFile(join(data, `${String(i).padStart(2, '0')}.npz`), encodeNpz({ x, label }));
    }
    await session.close();
  });
  afterAll(() => rm(dir, { recursive: true }));

  test('fits the size, is never worse than a single format that fits, and its recipe makes it again', async () => {
    const out = join(dir, 'fit.onnx');
    const options = { data, latencySeconds: 0, boards: ['host'] };
    const report = await compile(model, out, { ...options, budget: ['size=13kB', 'latency=5s'] });
    const { budget, verdict } = report;
    if (!budget || !verdict) throw new Error('no budget in the report');
    expect(report.pack.bytes).toBeLessThanOrEqual(13_000);
    expect(budget.met).toBe(true);
    expect(verdict).toMatchObject({ samples: 24, candidates: budget.candidates });
    expect(verdict.splits).toEqual({ calibrate: 48, choose: 24, judge: 24 });
    const chosen = budget.points.find(({ name }) => name === budget.chosen);
    for (const { single, bytes, kept, p50Us } of budget.points) {
      expect(p50Us).toBeGreaterThan(0);
      if (single && bytes <= 13_000) expect(chosen?.kept).toBeGreaterThanOrEqual(kept);
    }
    expect(budget.front).toContain(budget.chosen);
    expect(budget.why).toContain('the best one within 0.01 MB and within 5000.00 ms');
    const recipe = join(dir, 'plan.yaml');
    await writeFile(recipe, report.recipe);
    const again = await compile(model, join(dir, 'again.onnx'), { ...options, recipe });
    expect(again.pack.bytes).toBe(report.pack.bytes);
    expect(again.verdict).toEqual({ ...verdict, candidates: 1, splits: { calibrate: 72, choose: 0, judge: 24 } });
  });

  test('no data to choose on, or a recipe beside the budget, is refused', async () => {
    const out = join(dir, 'refused.pack');
    await expect(compile(model, out, { budget: ['size=13kB'] })).rejects.toMatchObject({ code: 'compiler/budget' });
    await expect(compile(model, out, { budget: ['size=13kB'], recipe: 'x.yaml' })).rejects.toMatchObject({
      code: 'compiler/budget',
    });
  });
});

/** Three layers, of which the middle one has outliers that 4 bits cannot hold beside the rest. */
function classifier(): ReturnType<typeof buildModel> {
  const random = seededRandom(3);
  const noise = (dims: number[], outlier = 0) =>
    tensorFromFloats(
      dims,
      Array.from({ length: dims.reduce((a, b) => a * b, 1) }, (_, i) => random() - 0.5 + (i % 37 === 0 ? outlier : 0)),
    );
  return buildModel({
    name: 'net',
    opset: 17,
    inputs: [tensorInfo('x', 'float32', ['batch', 64])],
    outputs: [tensorInfo('y', 'float32', ['batch', 32])],
    nodes: [
      { opType: 'MatMul', inputs: ['x', 'w1'], outputs: ['a'], name: 'first' },
      { opType: 'Relu', inputs: ['a'], outputs: ['b'] },
      // Nodes need no names.
      { opType: 'MatMul', inputs: ['b', 'w2'], outputs: ['c'] },
      { opType: 'Relu', inputs: ['c'], outputs: ['d'] },
      { opType: 'MatMul', inputs: ['d', 'w3'], outputs: ['y'], name: 'last' },
    ],
    initializers: { w1: noise([64, 96]), w2: noise([96, 64], 9), w3: noise([64, 32]) },
  });
}
