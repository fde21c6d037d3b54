import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadBoard } from '@flotilla/boards';
import { lowerModel } from '@flotilla/lowering';
import {
  cloneModel,
  type Model,
  type NewNode,
  type NewTensor,
  type Node,
  tensorFromFloats,
  tensorFromInts,
  writeModel,
} from '@flotilla/onnx';
import { openSession, type Tensors, type TensorValue } from '@flotilla/runtime';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openModelSession } from '../src/calibrate/model-session.ts';
import { floatShare } from '../src/int4/float-activations.ts';
import { findPass } from '../src/registry.ts';
import { convertInt4 } from '../src/passes/convert-int4.ts';
import { Kernels } from '../src/kernels/kernels.ts';
import type { Outcome, PassContext } from '../src/pass.ts';
import { build, energy, input, node, noise } from './small-models.ts';

let dir = '';
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'int4-'));
});
afterAll(() => rm(dir, { recursive: true }));

test('a recipe can name it', () => expect(findPass('convert-int4')).toBe(convertInt4));

describe('what ONNX Runtime computes from it is near the float graph', () => {
  const cases: [string, NewNode, { [name: string]: NewTensor }, number[], Attributes][] = [
    ['MatMul', node('MatMul', ['x', 'w']), { w: noise([64, 48]) }, [2, 64], { axis: 0, block_size: 32 }],
    ['MatMul, rows of 40', node('MatMul', ['x', 'w']), { w: noise([40, 48]) }, [2, 40], { axis: 0, block_size: 32 }],
    ['MatMul, rows of 176', node('MatMul', ['x', 'w']), { w: noise([176, 16]) }, [2, 176], { axis: 0, block_size: 16 }],
    [
      'MatMul of three axes',
      node('MatMul', ['x', 'w']),
      { w: noise([2, 32, 16]) },
      [2, 3, 32],
      { axis: 1, block_size: 32 },
    ],
    [
      'Gemm transB',
      node('Gemm', ['x', 'w', 'b'], { transB: { int: 1 } }),
      { w: noise([24, 64]), b: noise([24]) },
      [3, 64],
      { axis: 1, block_size: 32 },
    ],
    ['Conv', node('Conv', ['x', 'w']), { w: noise([8, 32, 3, 3]) }, [1, 32, 5, 5], { axis: 1, block_size: 32 }],
    [
      'depthwise Conv: int8 per channel',
      node('Conv', ['x', 'w'], { group: { int: 64 } }),
      { w: noise([64, 1, 5, 5]) },
      [1, 64, 6, 6],
      { axis: 0 },
    ],
  ];
  test.each(cases)('%s', async (_, made, initializers, dims, attributes) => {
    const model = build([made], initializers, dims);
    const before = await run(model, dims);
    const outcomes = await convert(model);
    expect(outcomes.map(({ outcome }) => outcome)).toEqual(['quantized']);
    const [dequantize] = [...model.graph.walk({ opType: 'DequantizeLinear' })];
    for (const [name, value] of Object.entries(attributes)) expect(dequantize?.int(name, -1)).toBe(value);
    expect(dequantize?.attributes.has('block_size')).toBe('block_size' in attributes);
    expect(model.graph.initializers.has('w')).toBe(false);
    const after = await run(model, dims);
    const relative = Math.sqrt(energy(after.map((value, i) => value - before[i]!)) / energy(before));
    expect(relative).toBeGreaterThan(0);
    expect(relative).toBeLessThan(0.12);
  });
});

test('a tied embedding is stored once: Gather and Gemm read the same blocks', async () => {
  const nodes = [node('Gather', ['w', 'ids'], {}, 'rows'), node('Gemm', ['rows', 'w'], { transB: { int: 1 } })];
  const ids = tensorFromInts('int64', [2], [1, 5]);
  const model = build(nodes, { w: noise([100, 64]), ids }, [1]);
  await convert(model);
  expect([...model.graph.walk({ opType: 'DequantizeLinear' })]).toHaveLength(1);
  expect(model.graph.initializers.has('w')).toBe(false);
});

test('the last layer, behind bias and softmax, takes 8 bits unless told otherwise; one before a residual does not', async () => {
  const nodes = [
    node('MatMul', ['x', 'w'], {}, 'a', 'first'),
    node('Add', ['a', 'x'], {}, 'sum'),
    node('MatMul', ['sum', 'v'], {}, 'b', 'last'),
    node('Add', ['b', 'bias'], {}, 'c'),
    node('Softmax', ['c']),
  ];
  const make = () => build(nodes, { w: noise([64, 64]), v: noise([64, 64]), bias: noise([64]) }, [1, 64]);
  expect((await convert(make(), { head: 'int8' })).map(({ reason }) => reason)).toEqual([
    'uint4, blocks of 32',
    'int8 per channel: the last layer',
  ]);
  expect((await convert(make())).map(({ reason }) => reason)).toEqual(['uint4, blocks of 32', 'uint4, blocks of 32']);
});

test('a table of positions stays float', async () => {
  const table = Float32Array.from({ length: 256 * 32 }, (_, i) =>
    Math.cos(Math.floor(i / 32) / 100 ** ((i % 32) / 32)),
  );
  const nodes = [node('Gather', ['w', 'ids'])];
  const model = build(nodes, { w: tensorFromFloats([256, 32], table), ids: tensorFromInts('int64', [1], [1]) }, [1]);
  expect(await convert(model)).toMatchObject([{ outcome: 'float', reason: 'a table of positions, not of tokens' }]);
});

test('options: block, symmetric, nodes kept float or int8, small weights', async () => {
  const nodes = [
    node('MatMul', ['x', 'w'], {}, 'a', 'first'),
    node('MatMul', ['a', 'v'], {}, 'b', 'second'),
    node('MatMul', ['b', 'u'], {}, 'y', 'third'),
  ];
  const model = build(nodes, { w: noise([64, 64]), v: noise([64, 64]), u: noise([64, 4]) }, [1, 64]);
  const outcomes = await convert(model, { block: 64, symmetric: true, int8: ['second'] });
  expect(outcomes.map(({ node: name, reason }) => [name, reason])).toEqual([
    ['first', 'int4, blocks of 64'],
    ['second', 'int8 per channel: the recipe asks for it'],
    ['third', 'only 256 weights'],
  ]);
  const other = build(nodes, { w: noise([64, 64]), v: noise([64, 64]), u: noise([64, 4]) }, [1, 64]);
  expect(await convert(other, { float: ['first'] })).toMatchObject([{ outcome: 'float' }, {}, {}]);
});

test('floatActivations: products by 4 bits are named in the metadata, pass after pass, and lowered to level 1', async () => {
  const nodes = [
    node('MatMul', ['x', 'w'], {}, 'a', 'first'),
    node('MatMul', ['a', 'v'], {}, 'b', 'second'),
    node('MatMul', ['b', 'u'], {}, 'c', ''),
    node('Add', ['c', 'b'], {}, 'y', 'sum'),
  ];
  const weights = { w: noise([64, 64]), v: noise([64, 64]), u: noise([64, 64]) };
  const levels = async (...passes: readonly object[]) => {
    const model = build(nodes, weights, [1, 64]);
    for (const options of passes) await convert(model, options);
    const { graph } = lowerModel(model, await loadBoard('raspberrypi-5')).model;
    return [
      floatShare(model.graph),
      ...[...graph.walk({ opType: 'MatMulNBits' })].map((n) => n.int('accuracy_level', 0)),
    ];
  };
  expect(await levels({})).toEqual([0, 4, 4, 4]);
  expect(await levels({ floatActivations: 'all' })).toEqual([1, 1, 1, 1]);
  expect(await levels({ only: ['first'], floatActivations: ['first'] }, { floatActivations: ['c'] })).toEqual([
    2 / 3,
    1,
    4,
    1,
  ]);
  // 8 bits have no kernel for it.
  expect(await levels({ int8: ['first'], floatActivations: ['first'] })).toEqual([0, 4, 4, 4]);
});

test('#21 NaN weights are refused with the node’s name; opset 17 with the pass that raises it', async () => {
  const w = new Float32Array(64 * 64).fill(1);
  w[70] = Number.NaN;
  const nodes = [node('MatMul', ['x', 'w'], {}, 'y', 'broken')];
  await expect(convert(build(nodes, { w: tensorFromFloats([64, 64], w) }, [1, 64]))).rejects.toMatchObject({
    code: 'compiler/weights',
    message: 'MatMul broken: weight 70 is NaN',
  });
  const old = build([node('MatMul', ['x', 'w'])], { w: noise([64, 64]) }, [1, 64], 17);
  await expect(convert(old)).rejects.toMatchObject({ code: 'compiler/opset', hint: /upgrade-opset/ });
});

test('with calibration data the layers’ outputs err less than by rounding to nearest', async () => {
  for (const [made, weight, dims] of [
    [node('MatMul', ['x', 'w']), [64, 48], [32, 64]],
    [node('Conv', ['x', 'w']), [8, 32, 3, 3], [1, 32, 12, 12]],
    [node('Gemm', ['x', 'w'], { transB: { int: 1 } }), [48, 64], [32, 64]],
  ] as const) {
    const build1 = () => build([made], { w: noise([...weight]) }, [...dims]);
    const before = await run(build1(), [...dims]);
    const x: TensorValue = { dtype: 'float32', dims, data: input([...dims]) };
    const errorOf = async (method: string): Promise<number> => {
      const model = build1();
      const [made1] = await convert(model, { method }, [{ x }]);
      expect(made1?.reason.endsWith(', GPTQ')).toBe(method === 'gptq');
      const after = await run(model, [...dims]);
      return energy(after.map((value, i) => value - before[i]!));
    };
    expect(await errorOf('gptq')).toBeLessThan(0.6 * (await errorOf('rtn')));
  }
  await expect(
    convert(build([node('MatMul', ['x', 'w'])], { w: noise([64, 48]) }, [2, 64]), { method: 'gptq' }),
  ).rejects.toThrow('GPTQ needs calibration data');
});

test('layers taken in turn make up for what those before have lost', async () => {
  const nodes = [
    node('MatMul', ['x', 'w'], {}, 'a', 'first'),
    node('Tanh', ['a'], {}, 'b'),
    node('MatMul', ['b', 'v'], {}, 'c', 'second'),
    node('Relu', ['c'], {}, 'd'),
    node('MatMul', ['d', 'u']),
  ];
  const dims = [256, 64];
  const build1 = () => build(nodes, { w: noise([64, 64]), v: noise([64, 64]), u: noise([64, 48]) }, dims);
  const before = await run(build1(), dims);
  const errorOf = async (options: object): Promise<number> => {
    const model = build1();
    await convert(model, { method: 'gptq', ...options }, [{ x: { dtype: 'float32', dims, data: input(dims) } }]);
    const after = await run(model, dims);
    return energy(after.map((value, i) => value - before[i]!));
  };
  expect(await errorOf({ inTurn: true })).toBeLessThan(0.7 * (await errorOf({ inTurn: false })));
});

type Attributes = { readonly [name: string]: number };
type Made = { readonly node: string; readonly outcome: Outcome | undefined; readonly reason: string };

async function convert(model: Model, options: object = {}, samples?: Tensors[]): Promise<Made[]> {
  const notes: Made[] = [];
  const context = {
    note: (at: Node, reason: string, outcome?: Outcome) => notes.push({ node: at.name, outcome, reason }),
    progress: () => undefined,
    kernels: new Kernels(),
    floatModel: cloneModel(model),
    open: openModelSession,
    samples:
      samples &&
      async function* () {
        yield* samples;
      },
    signal: undefined,
  } as unknown as PassContext;
  await convertInt4.run(model.graph, context, convertInt4.options.parse({ head: 'int4', ...options }));
  return notes;
}

async function run(model: Model, dims: number[]): Promise<Float32Array> {
  const path = join(dir, `${Math.random()}.onnx`);
  await writeModel(model, path);
  const session = await openSession(path);
  const x: TensorValue = { dtype: 'float32', dims, data: input(dims) };
  const { y } = await session.run({ x });
  await session.close();
  if (y?.dtype !== 'float32') throw new Error('no y');
  return y.data;
}
