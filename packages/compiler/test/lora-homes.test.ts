import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { LoraModule } from '@flotilla/checkpoint';
import {
  buildModel,
  floats,
  type Model,
  type NewNode,
  tensorFromFloats,
  tensorFromInts,
  tensorInfo,
} from '@flotilla/onnx';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { baseWarning, checkBaseModel } from '../src/lora/base-model.ts';
import { readLoraMap } from '../src/lora/lora-map.ts';
import { mergeLora } from '../src/lora/merge.ts';
import { adapter } from './lora-adapter.ts';

let dir = '';
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'homes-'));
});
afterAll(() => rm(dir, { recursive: true }));

/** Adds `value` to every weight of a layer of two inputs. */
function filled(outFeatures: number, value: number): LoraModule {
  return {
    a: Float32Array.of(1, 1),
    b: new Float32Array(outFeatures).fill(value),
    rank: 1,
    inFeatures: 2,
    outFeatures,
    kernel: [],
    scale: 1,
    magnitude: undefined,
    bias: undefined,
  };
}

describe('query, key and value in one product', () => {
  const modules = { 'h.0.self_attn.q_proj': filled(4, 1), 'h.0.self_attn.v_proj': filled(2, 3) };
  const merged = [1, 1, 1, 1, 0, 0, 3, 3]; // 4 query outputs, 2 of keys, 2 of values

  test.each(['/h.0/attn/qkv_proj/MatMul', '/h.0/self_attn/MatMul', '/h.0/self_attn/c_attn/MatMul'])(
    '%s is cut where its Split is',
    (name) => {
      const model = product(name, 8, [4, 2, 2]);
      mergeLora(model.graph, [{ adapter: adapter(modules) }]);
      expect(weightsOf(model)).toEqual([...merged, ...merged]);
    },
  );

  test('without a Split by what the modules leave: keys are as long as values', () => {
    const model = product('/h.0/attn/qkv_proj/MatMul', 8);
    mergeLora(model.graph, [{ adapter: adapter(modules) }]);
    expect(weightsOf(model)).toEqual([...merged, ...merged]);
  });

  test('not cut where the sizes do not add up', () => {
    const model = product('/h.0/attn/qkv_proj/MatMul', 9);
    expect(() => mergeLora(model.graph, [{ adapter: adapter(modules) }])).toThrow(
      'h.0.self_attn.q_proj [4, 2] has no home in the graph',
    );
  });
});

describe('--lora-map', () => {
  test('sends modules to nodes and to runs of outputs; * is handed on', async () => {
    const model = product('/block_0/fused', 8);
    await writeFile(join(dir, 'map.yaml'), 'h.*.q: /block_*/fused[0:4]\nh.*.v: "/block_*/fused[6:8]"\n');
    const map = await readLoraMap(join(dir, 'map.yaml'));
    mergeLora(model.graph, [{ adapter: adapter({ 'h.0.q': filled(4, 1), 'h.0.v': filled(2, 3) }) }], { map });
    expect(weightsOf(model).slice(0, 8)).toEqual([1, 1, 1, 1, 0, 0, 3, 3]);
  });

  test.each([
    ['h.0.q: nowhere', 'sends h.0.q to nowhere, which is no layer of the graph', 'lora-home'],
    ['h.0.q: /block_0/fused[6:10]', 'to outputs 6 to 10 of /block_0/fused [8, 2]', 'lora-shape'],
    ['h.0.q: /block_0/fused', 'sends h.0.q [4, 2] to outputs 0 to 8', 'lora-shape'],
    ['h.0.q: 7', 'h.0.q is sent to 7, which is no name', 'lora-map'],
    ['h.0.q: x[4:4]', '[4:4] is empty', 'lora-map'],
    ['[]', 'is no map', 'lora-map'],
    ['{', 'is not YAML', 'lora-map'],
  ])('%s is refused', async (text, message, code) => {
    await writeFile(join(dir, 'bad.yaml'), text);
    const model = product('/block_0/fused', 8);
    const merging = readLoraMap(join(dir, 'bad.yaml')).then((map) =>
      mergeLora(model.graph, [{ adapter: adapter({ 'h.0.q': filled(4, 1) }) }], { map }),
    );
    await expect(merging).rejects.toMatchObject({
      code: `compiler/${code}`,
      message: expect.stringContaining(message) as string,
    });
  });
});

describe('one weight, two nodes', () => {
  test('both calls of a module get the merged weight', () => {
    const model = shared('/net/proj/MatMul', '/net/proj_1/MatMul');
    mergeLora(model.graph, [{ adapter: adapter({ 'net.proj': filled(2, 1) }) }]);
    const [first, second] = model.graph.nodes;
    expect(second?.inputs[1]).toBe(first?.inputs[1]);
    expect([...floats(model.graph.constant(first?.inputs[1] ?? '')!)]).toEqual([1, 1, 1, 1]);
  });

  test('another module with the same weight keeps it', () => {
    const model = shared('/net/proj/MatMul', '/net/tied/MatMul');
    mergeLora(model.graph, [{ adapter: adapter({ 'net.proj': filled(2, 1) }) }]);
    expect([...floats(model.graph.constant('w')!)]).toEqual([0, 0, 0, 0]);
    expect(model.graph.nodes[1]?.inputs[1]).toBe('w');
  });
});

test('a nameless layer is found by its shape where no other has it', () => {
  const model = product('MatMul_3', 8);
  mergeLora(model.graph, [{ adapter: adapter({ 'net.proj': filled(8, 2) }) }]);
  expect(weightsOf(model)).toEqual(Array.from({ length: 16 }, () => 2));
});

test('a weight behind Cast and Transpose is merged in the type that the node reads', () => {
  const model = buildModel({
    name: 'cast',
    opset: 17,
    inputs: [tensorInfo('x', 'float32', ['n', 2])],
    outputs: [tensorInfo('y', 'float32', ['n', 3])],
    nodes: [
      { opType: 'Cast', inputs: ['net.proj.weight'], outputs: ['c'], attributes: { to: { int: 1 } } },
      { opType: 'Transpose', inputs: ['c'], outputs: ['t'] },
      { opType: 'MatMul', inputs: ['x', 't'], outputs: ['y'] },
    ],
    initializers: { 'net.proj.weight': { dtype: 'float16', dims: [3, 2], bytes: new Uint8Array(12) } },
  });
  mergeLora(model.graph, [{ adapter: adapter({ 'net.proj': filled(3, 1 + 2 ** -15) }) }]);
  const weight = model.graph.constant(model.graph.nodes.at(-1)?.inputs[1] ?? '');
  expect(weight).toMatchObject({ dtype: 'float32', dims: [2, 3] });
  expect([...floats(weight!)]).toEqual(Array.from({ length: 6 }, () => 1 + 2 ** -15)); // fp16 has no such number
});

describe('#34 an adapter for another base', () => {
  const trained = (baseModel: string | undefined) => {
    const { config, ...rest } = adapter({});
    return { ...rest, config: { ...config, baseModel } };
  };

  test.each([
    ['meta-llama/Llama-3.2-1B', 'meta-llama/Llama-3.2-3B'],
    ['gpt2', '/models/bert-base'],
  ])('%s beside %s is refused', (own, other) => {
    expect(() => checkBaseModel(trained(other), { config: { _name_or_path: own } })).toThrow(
      expect.objectContaining({
        code: 'compiler/lora-base',
        message: `an-adapter was trained for ${other}, and this model is ${own}`,
      }),
    );
  });

  test.each([
    ['meta-llama/Llama-3.2-1B', 'models/llama-3.2-1b/'],
    ['meta-llama/Llama-3.2-1B', 'unsloth/Llama-3.2-1B-bnb-4bit'],
    ['meta-llama/Llama-3.2-1B', undefined],
    [undefined, 'gpt2'],
  ])('%s beside %s may be the same', (own, other) => {
    expect(() => checkBaseModel(trained(other), { config: { _name_or_path: own } })).not.toThrow();
  });

  test('#34 where the model does not say what it is, a warning says that only shapes tell', () => {
    const adapter = trained('meta-llama/Llama-2-7b');
    expect(baseWarning(adapter, { config: {}, name: 'mine' })).toContain('was trained for meta-llama/Llama-2-7b; mine');
    expect(baseWarning(adapter, { config: {}, name: 'llama-2-7b' })).toBeUndefined();
    expect(baseWarning(adapter, { config: { _name_or_path: 'llama-2-7b' }, name: 'mine' })).toBeUndefined();
  });
});

/** `y = x · W`, W `[2, outputs]` and nameless, cut by a Split where there are lengths. */
function product(name: string, outputs: number, lengths?: readonly number[]): Model {
  const split: NewNode = {
    opType: 'Split',
    inputs: ['y', 'lengths'],
    outputs: ['q', 'k', 'v'],
    attributes: { axis: { int: -1 } },
  };
  return buildModel({
    name: 'product',
    opset: 17,
    inputs: [tensorInfo('x', 'float32', ['n', 2])],
    outputs: [tensorInfo(lengths ? 'q' : 'y', 'float32', undefined)],
    nodes: [{ opType: 'MatMul', inputs: ['x', 'onnx::MatMul_1'], outputs: ['y'], name }, ...(lengths ? [split] : [])],
    initializers: {
      'onnx::MatMul_1': tensorFromFloats([2, outputs], new Float32Array(2 * outputs)),
      ...(lengths && { lengths: tensorFromInts('int64', [lengths.length], lengths) }),
    },
  });
}

function weightsOf(model: Model): readonly number[] {
  return [...floats(model.graph.constant(model.graph.nodes[0]?.inputs[1] ?? '')!)];
}

function shared(first: string, second: string): Model {
  return buildModel({
    name: 'shared',
    opset: 17,
    inputs: [tensorInfo('x', 'float32', ['n', 2])],
    outputs: [tensorInfo('z', 'float32', ['n', 2])],
    nodes: [
      { opType: 'MatMul', inputs: ['x', 'w'], outputs: ['y'], name: first },
      { opType: 'MatMul', inputs: ['y', 'w'], outputs: ['z'], name: second },
    ],
    initializers: { w: tensorFromFloats([2, 2], new Float32Array(4)) },
  });
}
