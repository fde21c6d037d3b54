import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openAdapter, openBaseWeights, openSafetensors } from '@flotilla/checkpoint';
import {
  buildModel,
  floats,
  type Model,
  type NewNode,
  type NewTensor,
  openModel,
  tensorFromFloats,
  tensorFromInts,
  tensorInfo,
  writeModel,
} from '@flotilla/onnx';
import { openSession } from '@flotilla/runtime';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { compile } from '../src/compile/compile.ts';
import { loadBase } from '../src/lora/base.ts';
import { findHomes } from '../src/lora/homes.ts';
import { mergeLora } from '../src/lora/merge.ts';
import { requantizationOf } from '../src/lora/requantization.ts';

const fixtures = 'test/fixtures/lora';
const llama = 'test/fixtures/models/wordnet-llama-4m';
let expected: Awaited<ReturnType<typeof openSafetensors>>;
let dir = '';
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'base-'));
  expected = await openSafetensors(join(fixtures, 'expected.safetensors'));
});
afterAll(async () => {
  await expected.close();
  await rm(dir, { recursive: true });
});

test.each(['tiny.onnx', 'tiny-dynamo.onnx'])(
  '%s takes the weights of a sharded checkpoint with bitsandbytes’ NF4 and FP4 in it',
  async (file) => {
    const model = await withoutWeights(join(fixtures, file));
    const loaded = await load(model, join(fixtures, 'base'));
    expect(loaded).toMatchObject({ tensors: 33, fourBit: 9, warnings: [] });
    expect(await distance(model, 'four-bit')).toBeLessThan(2e-5);
  },
);

test('an adapter is merged into the dequantized base that it was trained beside, within 1e-4 of PEFT', async () => {
  const model = await withoutWeights(join(fixtures, 'tiny.onnx'));
  await load(model, join(fixtures, 'base'));
  mergeLora(model.graph, [{ adapter: await openAdapter(join(fixtures, 'adapters/plain')) }]);
  expect(await distance(model, 'four-bit-plain')).toBeLessThan(1e-4);
});

test('a real export takes its anonymous weights from model.safetensors', async () => {
  const original = await openModel(join(llama, 'model.onnx'));
  const model = await withoutWeights(join(llama, 'model.onnx'));
  expect(await load(model, llama)).toMatchObject({ tensors: 39, warnings: [] });
  const loaded = new Map(findHomes(model.graph).map(({ tensor, node }) => [node.name, floats(tensor)]));
  // The tables of rotary positions are the graph's own.
  const layers = findHomes(original.graph).filter(({ node }) => /_proj|embed|lm_head/.test(node.name));
  expect(layers).toHaveLength(30);
  for (const { tensor, node } of layers) {
    const weights = loaded.get(node.name);
    // fp16 in the checkpoint, fp32 in the graph
    expect(
      floats(tensor).every(
        (value, i) => Math.abs(value - (weights?.[i] ?? Number.NaN)) <= 5e-4 * Math.abs(value) + 1e-6,
      ),
    ).toBe(true);
  }
});

test('a layer without weights, and weights of its shape without a layer: refused with both names', async () => {
  const index = JSON.parse(await readFile(join(fixtures, 'base/model.safetensors.index.json'), 'utf8')) as object;
  await cp(join(fixtures, 'base'), join(dir, 'renamed'), { recursive: true });
  const path = join(dir, 'renamed/model-00002-of-00002.safetensors');
  const renamed = Buffer.from(await readFile(path));
  const at = renamed.indexOf('model.layers.1.c_square.weight');
  renamed.write('model.layers.1.x_square.weight', at);
  await writeFile(path, renamed);
  const text = JSON.stringify(index).replace('model.layers.1.c_square.weight', 'model.layers.1.x_square.weight');
  await writeFile(join(dir, 'renamed/model.safetensors.index.json'), text);
  const model = await withoutWeights(join(fixtures, 'tiny.onnx'));
  await expect(load(model, join(dir, 'renamed'))).rejects.toMatchObject({
    code: 'compiler/base',
    message: expect.stringContaining(
      'no weights for /model/layers.1/c_square/Gemm [8, 8]; of its shape are model.layers.1.x_square.weight',
    ) as string,
  });
});

test('a checkpoint that lacks a layer, or fits nowhere, is refused', async () => {
  const whole = await openBaseWeights(join(fixtures, 'base'));
  const only = (kept: (name: string) => boolean) => ({
    path: 'a-checkpoint',
    tensors: new Map([...whole.tensors].filter(([name]) => kept(name))),
    floats: (name: string) => whole.floats(name),
    close: () => whole.close(),
  });
  const model = await openModel(join(fixtures, 'tiny.onnx'));
  const torn = only((name) => !name.endsWith('1.attn.k_proj.weight'));
  await expect(loadBase(model.graph, torn)).rejects.toMatchObject({
    code: 'compiler/base',
    message:
      'a-checkpoint: no weights for /model/layers.1/attn/k_proj/MatMul [8, 8], though layers beside them have some',
  });
  const none = only(() => false);
  await expect(loadBase(model.graph, none)).rejects.toThrow('not one of its tensors belongs to a layer');
  await whole.close();
});

test('compile takes base and adapter together, and says what it took', async () => {
  const out = join(dir, 'compiled.onnx');
  const report = await compile(join(fixtures, 'tiny.onnx'), out, {
    base: join(fixtures, 'base'),
    lora: [{ dir: join(fixtures, 'adapters/plain') }],
    weights: 'fp32',
    boards: ['host'],
    latencySeconds: 0,
  });
  expect(report).toMatchObject({ base: { tensors: 33, fourBit: 9 }, requantization: null });
  expect(await distance(await openModel(out), 'four-bit-plain')).toBeLessThan(1e-4);
});

test.each([
  ['per output channel', { axis: { int: 0 } }, [2], [3, 1]],
  ['in blocks', { axis: { int: 1 }, block_size: { int: 2 } }, [2, 2], [3, 3, 1, 1]],
])('what requantizing took, %s', (_, attributes, dims, scales) => {
  const weights = [3, 6, -9, 12.25, 1, 2, -3, 4];
  const graph = (nodes: readonly NewNode[], initializers: { readonly [name: string]: NewTensor }) =>
    buildModel({
      name: 'layer',
      opset: 21,
      inputs: [tensorInfo('x', 'float32', ['n', 4])],
      outputs: [tensorInfo('y', 'float32', ['n', 2])],
      nodes: [
        ...nodes,
        { opType: 'Gemm', inputs: ['x', 'w'], outputs: ['y'], name: 'layer', attributes: { transB: { int: 1 } } },
      ],
      initializers,
    }).graph;
  const float = graph([], { w: tensorFromFloats([2, 4], weights) });
  const quantized = graph([{ opType: 'DequantizeLinear', inputs: ['q', 's', 'z'], outputs: ['w'], attributes }], {
    q: tensorFromInts('int8', [2, 4], [2, 3, -2, 5, 2, 3, -2, 5]),
    s: tensorFromFloats(dims, scales),
    z: tensorFromInts(
      'int8',
      dims,
      scales.map(() => 1),
    ),
  });
  const power = weights.reduce((sum, value) => sum + value ** 2, 0);
  const snrDb = 10 * Math.log10(power / 0.25 ** 2);
  const found = requantizationOf(float, quantized);
  expect(found?.layers).toBe(1);
  expect(found?.snrDb).toBeCloseTo(snrDb, 4);
  expect(found?.worst.node).toBe('layer');
});

async function load(model: Model, path: string): ReturnType<typeof loadBase> {
  const weights = await openBaseWeights(path);
  try {
    return await loadBase(model.graph, weights);
  } finally {
    await weights.close();
  }
}

/** The graph with noise where weights were, so that nothing of its own can pass for the checkpoint's. */
async function withoutWeights(path: string): Promise<Model> {
  const model = await openModel(path);
  for (const [name, tensor] of [...model.graph.initializers]) {
    if (tensor.dtype !== 'float32' || tensor.dims.length === 0) continue;
    model.graph.removeInitializer(name);
    model.graph.addInitializer(
      name,
      tensorFromFloats(
        tensor.dims,
        floats(tensor).map((_, i) => (i % 7) - 3.5),
      ),
    );
  }
  return model;
}

/** The largest difference from PyTorch's outputs; the outputs are of the size of 1. */
async function distance(model: Model, name: string): Promise<number> {
  const path = join(dir, 'model.onnx');
  await writeModel(model, path);
  const session = await openSession(path);
  const { ids } = JSON.parse(await readFile(join(fixtures, 'combined.json'), 'utf8')) as { ids: number[] };
  const data = BigInt64Array.from(ids, BigInt);
  const { logits } = await session.run({ ids: { dtype: 'int64', dims: [1, data.length], data } });
  await session.close();
  if (logits?.dtype !== 'float32') throw new Error('no logits');
  const wanted = await expected.floats(name);
  return wanted.reduce((most, value, i) => Math.max(most, Math.abs(value - (logits.data[i] ?? Number.NaN))), 0);
}
