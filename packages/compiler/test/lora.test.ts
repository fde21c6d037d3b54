import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type LoraModule, openAdapter, openSafetensors } from '@flotilla/checkpoint';
import { buildModel, floats, type Model, openModel, tensorFromFloats, tensorInfo, writeModel } from '@flotilla/onnx';
import { decoderFeeds, spawnSession } from '@flotilla/runtime';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { mergeLora } from '../src/lora/merge.ts';
import { adapter } from './lora-adapter.ts';

const base = 'test/fixtures/models/wordnet-llama-4m/model.onnx';
const adapters = 'test/fixtures/models/adapters';
let dir = '';
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'lora-'));
});
afterAll(() => rm(dir, { recursive: true }));

test.each([
  ['intents-lora', 28],
  ['intents-dora', 20],
  ['intents-rslora', 8],
])('logits of base + %s are PyTorch’s within 1e-4', async (name, modules) => {
  const model = await openModel(base);
  const folder = join(adapters, name);
  const merged = mergeLora(model.graph, [{ adapter: await openAdapter(folder) }]);
  expect(merged).toHaveLength(modules);
  expect(merged[0]).toEqual({
    module: 'model.layers.0.self_attn.q_proj',
    node: '/model/layers.0/self_attn/q_proj/MatMul',
  });
  const path = join(dir, 'merged.onnx');
  await writeModel(model, path);
  const session = await spawnSession(path);
  const reference = await openSafetensors(join(folder, 'reference.safetensors'));
  for (const i of [0, 1, 2, 3]) {
    const bytes = await reference.read(`input_ids.${i}`);
    const ids = Array.from(new BigInt64Array(bytes.buffer), Number);
    const { logits } = await session.run(decoderFeeds(session.inputs, ids), { fetches: ['logits'] });
    const expected = await reference.floats(`logits.${i}`);
    if (logits?.dtype !== 'float32') throw new Error('no logits');
    const worst = expected.reduce((most, value, at) => Math.max(most, Math.abs(value - logits.data[at]!)), 0);
    expect(worst).toBeLessThan(1e-4);
  }
  await reference.close();
  await session.close();
});

describe('homes', () => {
  const module: LoraModule = {
    a: Float32Array.of(1, 2, 3),
    b: Float32Array.of(10, 20),
    rank: 1,
    inFeatures: 3,
    outFeatures: 2,
    scale: 0.5,
    kernel: [],
    magnitude: undefined,
    bias: undefined,
  };

  test.each(['MatMul', 'Gemm transB', 'Transpose'])('%s: 0.5 · B · A is added the right way round', (kind) => {
    const model = linear(kind, '/net/proj/MatMul');
    mergeLora(model.graph, [{ adapter: adapter({ 'net.proj': module }), weight: 2 }]);
    const [node] = [...model.graph.walk()].filter(({ opType }) => opType === 'MatMul' || opType === 'Gemm');
    const weight = model.graph.constant(node?.inputs[1] ?? '');
    const outIn = [10, 20, 30, 20, 40, 60].map((value) => value + 1);
    const inOut = [10, 20, 20, 40, 30, 60].map((value) => value + 1);
    expect([...floats(weight!)]).toEqual(kind === 'Gemm transB' ? outIn : inOut);
  });

  test('a prefix that the export dropped or added does not matter', () => {
    expect(
      mergeLora(linear('MatMul', '/proj/MatMul').graph, [{ adapter: adapter({ 'net.proj': module }) }]),
    ).toHaveLength(1);
    expect(
      mergeLora(linear('MatMul', '/wrap/net/proj/MatMul').graph, [{ adapter: adapter({ 'net.proj': module }) }]),
    ).toHaveLength(1);
  });

  test('an initializer’s name is enough where nodes are anonymous', () => {
    const model = linear('Gemm transB', 'node_7', 'net.proj.weight');
    expect(mergeLora(model.graph, [{ adapter: adapter({ 'net.proj': module }) }])).toEqual([
      { module: 'net.proj', node: 'node_7' },
    ]);
  });

  test('#34 a module with no home names the nearest, and nothing is merged', () => {
    const model = linear('MatMul', '/net/proj/MatMul');
    const two = adapter({ 'net.proj': module, 'net.other.proj': module });
    expect(() => mergeLora(model.graph, [{ adapter: two }])).toThrow(
      expect.objectContaining({
        code: 'compiler/lora-home',
        message: 'net.other.proj [2, 3] has no home in the graph; nearest: /net/proj/MatMul [2, 3]',
      }),
    );
    expect([...floats(model.graph.constant('w')!)]).toEqual([1, 1, 1, 1, 1, 1]);
  });

  test('#34 a module with two homes names both', () => {
    const model = linear('MatMul', '/a/proj/MatMul', 'w', '/b/proj/MatMul');
    expect(() => mergeLora(model.graph, [{ adapter: adapter({ proj: module }) }])).toThrow(
      'proj [2, 3] fits /a/proj/MatMul [2, 3], /b/proj/MatMul [2, 3]',
    );
  });

  test('#34 an adapter for a base of another shape', () => {
    const wide = { ...module, a: new Float32Array(4), inFeatures: 4 };
    expect(() =>
      mergeLora(linear('MatMul', '/net/proj/MatMul').graph, [{ adapter: adapter({ 'net.proj': wide }) }]),
    ).toThrow(expect.objectContaining({ code: 'compiler/lora-shape' }));
  });

  test('#34 a NaN in an adapter is refused before merging', () => {
    const broken = { ...module, a: Float32Array.of(1, Number.NaN, 3) };
    expect(() =>
      mergeLora(linear('MatMul', '/net/proj/MatMul').graph, [{ adapter: adapter({ 'net.proj': broken }) }]),
    ).toThrow('net.proj: lora_A[1] is NaN');
  });
});

/** `y = x · W` with W all ones, 3 in, 2 out; a second node with a weight of its own where it has a name. */
function linear(kind: string, name: string, weight = 'w', second?: string): Model {
  const ones = (dims: number[]) => tensorFromFloats(dims, [1, 1, 1, 1, 1, 1]);
  const outIn = kind !== 'MatMul';
  const transpose = { opType: 'Transpose', inputs: [weight], outputs: ['wt'], attributes: { perm: { ints: [1, 0] } } };
  const node = {
    opType: kind === 'Gemm transB' ? 'Gemm' : 'MatMul',
    inputs: ['x', kind === 'Transpose' ? 'wt' : weight],
    outputs: ['y'],
    name,
    attributes: kind === 'Gemm transB' ? { transB: { int: 1 } } : {},
  };
  const other = { opType: 'MatMul', inputs: ['x', 'v'], outputs: ['z'], name: second };
  return buildModel({
    name: 'linear',
    opset: 17,
    inputs: [tensorInfo('x', 'float32', ['n', 3])],
    outputs: [tensorInfo('y', 'float32', ['n', 2])],
    nodes: [...(kind === 'Transpose' ? [transpose] : []), node, ...(second ? [other] : [])],
    initializers: { [weight]: ones(outIn ? [2, 3] : [3, 2]), ...(second ? { v: ones([3, 2]) } : {}) },
  });
}
