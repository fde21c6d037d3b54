import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { debug, loadModel, quantize } from '@flotilla/compiler';
import {
  buildModel,
  floats,
  type Model,
  type NewTensor,
  type Node,
  openModel,
  tensorFromFloats,
  tensorInfo,
  writeModel,
} from '@flotilla/onnx';
import { encodeNpz, type Tensors } from '@flotilla/runtime';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { NodeError } from '../src/debug/compare-nodes.ts';
import { firstDivergence } from '../src/debug/first-divergence.ts';
import { seededRandom } from '../src/calibrate/seeded-random.ts';

const llama = 'test/fixtures/models/wordnet-llama-4m';
const random = seededRandom(23);
const noise = (dims: readonly number[], size = 1): NewTensor =>
  tensorFromFloats(
    dims,
    Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => (random() * 2 - 1) * size),
  );

let dir = '';
let data = '';
let right = '';
const samples: Tensors[] = [];
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'debug-'));
  data = join(dir, 'data');
  right = join(dir, 'net.onnx');
  await mkdir(data);
  // Widths differ from sample to sample.
  for (let i = 0; i < 16; i++) {
    const dims = [1, 3, 8, 8 + 2 * (i % 3)];
    const length = dims.reduce((a, b) => a * b, 1);
    const x = { dtype: 'float32', dims, data: Float32Array.from({ length }, () => random() * 2 - 1) } as const;
    samples.push({ x });
    await writeFile(join(data, `${String(i).padStart(2, '0')}.npz`), encodeNpz({ x }));
  }
  await writeModel(network(), right);
});
afterAll(() => rm(dir, { recursive: true }));

/** Quantized by us, spoilt by `spoil`, and written. */
async function made(name: string, bits: 8 | 4, source: string, spoil: (model: Model) => void): Promise<string> {
  const calibration = {
    async *samples() {
      for (const inputs of samples) yield { inputs };
    },
  };
  const model = await quantize(await loadModel(source), { bits, data: bits === 8 ? calibration : undefined });
  spoil(model);
  const path = join(dir, name);
  await writeModel(model, path);
  return path;
}

/** Multiplies the scale that a node's weight is read with. */
function scaleWeight(model: Model, name: string, factor: number): void {
  const node = [...model.graph.walk()].find((one) => one.name === name) as Node;
  const reading = node.inputs.map((input) => producer(node, input)).find((one) => one?.opType === 'DequantizeLinear');
  const scale = reading?.graph.constant(reading.inputs[1] ?? '');
  if (!reading || !scale) throw new Error(`${name} reads no quantized weight`);
  const spoilt = reading.graph.uniqueName('spoilt');
  reading.graph.addInitializer(
    spoilt,
    tensorFromFloats(
      scale.dims,
      floats(scale).map((value) => value * factor),
    ),
  );
  reading.setInput(1, spoilt);
}

function producer(node: Node, value: string): Node | undefined {
  const found = node.graph.producer(value);
  // Of a weight, not of an activation, which is quantized first.
  return found && node.graph.constant(found.inputs[0] ?? '') ? found : undefined;
}

describe('debug', () => {
  test('finds nothing in a healthy int8 model, over widths that vary, with a residual and an If', async () => {
    const report = await debug(await made('healthy.onnx', 8, right, () => {}), { against: right, data });
    expect(report).toMatchObject({ firstDivergence: null, samples: 4, unmatched: [] });
    expect(report.nodes.find(({ tensor }) => tensor === 'y')?.sqnrDb).toBeGreaterThan(20);
    expect(report.nodes.some(({ tensor }) => tensor.startsWith('y#0/'))).toBe(true);
  });

  test.each(['first', 'second', 'third', 'last'])(
    'names the node %s whose scale is four times too large',
    async (name) => {
      const spoilt = await made(`${name}.onnx`, 8, right, (model) => scaleWeight(model, name, 4));
      const { firstDivergence: first, nodes } = await debug(spoilt, { against: right, data, samples: 2 });
      expect(first).toMatchObject({ node: name, ownGain: expect.closeTo(4, 0) as number });
      expect(first?.sqnrDb).toBeLessThan(0);
      // What comes behind inherits the error, and has none of its own.
      const behind = nodes.slice(nodes.findIndex(({ node }) => node === name) + 1);
      expect(behind.filter(({ ownDb }) => ownDb !== null && ownDb < 10)).toEqual([]);
    },
  );

  test('finds values that are called otherwise by their place in the graph', async () => {
    const rename = ({ graph }: Model): void => {
      for (const [at, node] of Array.from(graph.nodes).entries())
        for (const [index, output] of node.outputs.entries()) {
          if (output === '' || graph.isOutput(output)) continue;
          node.setOutput(index, `${(at * 7) % 101}`);
          graph.replaceUses(output, `${(at * 7) % 101}`);
        }
    };
    const spoilt = await made('renamed.onnx', 8, right, (model) => {
      scaleWeight(model, 'second', 4);
      rename(model);
    });
    const { firstDivergence, matched, unmatched } = await debug(spoilt, { against: right, data, samples: 2 });
    expect(firstDivergence).toMatchObject({ node: 'second', ownGain: expect.closeTo(4, 0) as number });
    expect(unmatched).toEqual([]);
    expect(matched).toBeGreaterThan(10);
  });

  test('looks into the branches of an If', async () => {
    const source = await openModel(right);
    const inner = [...source.graph.walk()].find(({ name }) => name === 'inner') as Node;
    inner.setInput(1, 'wrong');
    source.graph.addInitializer('wrong', tensorFromFloats([], [2.5]));
    const path = join(dir, 'branch.onnx');
    await writeModel(source, path);
    const { firstDivergence } = await debug(path, { against: right, data, samples: 1 });
    expect(firstDivergence).toMatchObject({ node: 'inner', op: 'Mul', tensor: 'y#0/scaled', ownGain: 5 });
  });

  test('runs a language model on prompts: int4, one scale wrong in one layer', async () => {
    const prompts = join(dir, 'prompts.jsonl');
    await writeFile(prompts, '{"text":"a small furry animal"}\n{"text":"the act of walking"}\n');
    const node = '/model/layers.2/mlp/up_proj/MatMul';
    const spoilt = await made('llama.onnx', 4, llama, (model) => scaleWeight(model, node, 4));
    const { firstDivergence, samples: count } = await debug(spoilt, { against: llama, data: prompts });
    expect(firstDivergence).toMatchObject({ node, op: 'MatMul' });
    expect(count).toBe(1); // short texts share a window
  });

  test('refuses models that have nothing in common, and data that fits neither (#23)', async () => {
    const other = join(dir, 'other.onnx');
    await writeModel(
      buildModel({
        opset: 17,
        inputs: [tensorInfo('x', 'float32', [1, 3, 8, 'w'])],
        outputs: [tensorInfo('z', 'float32', undefined)],
        nodes: [{ opType: 'Relu', inputs: ['x'], outputs: ['z'] }],
      }),
      other,
    );
    await expect(debug(other, { against: right, data })).rejects.toMatchObject({ code: 'compiler/graph' });
    await expect(debug(right, { against: right, data: join(dir, 'nowhere') })).rejects.toMatchObject({
      code: 'compiler/data',
    });
  });
});

/** A stem that the recipe keeps float, three convolutions with a residual, a matrix at the end, and an `If` on the way that always takes its first branch. */
function network(): Model {
  const conv = (name: string, input: string, w: string) => ({
    opType: 'Conv',
    inputs: [input, w],
    outputs: [`${name}_out`],
    name,
    attributes: { pads: { ints: [1, 1, 1, 1] } },
  });
  const branch = (by: number) => ({
    graph: {
      inputs: [],
      outputs: [tensorInfo('scaled', 'float32', ['n', 10])],
      nodes: [{ opType: 'Mul', inputs: ['z', 'by'], outputs: ['scaled'], name: 'inner' }],
      initializers: { by: tensorFromFloats([], [by]) },
    },
  });
  return buildModel({
    opset: 17,
    inputs: [tensorInfo('x', 'float32', [1, 3, 8, 'w'])],
    outputs: [tensorInfo('y', 'float32', undefined)],
    nodes: [
      conv('stem1', 'x', 'w0'),
      conv('stem2', 'stem1_out', 'w1'),
      conv('stem3', 'stem2_out', 'w2'),
      conv('first', 'stem3_out', 'w3'),
      { opType: 'Relu', inputs: ['first_out'], outputs: ['a'], name: 'relu' },
      conv('second', 'a', 'w4'),
      { opType: 'Relu', inputs: ['second_out'], outputs: ['b'] },
      conv('third', 'b', 'w5'),
      { opType: 'Add', inputs: ['third_out', 'a'], outputs: ['c'], name: 'residual' },
      { opType: 'GlobalAveragePool', inputs: ['c'], outputs: ['pooled'] },
      { opType: 'Flatten', inputs: ['pooled'], outputs: ['flat'] },
      { opType: 'MatMul', inputs: ['flat', 'w6'], outputs: ['z'], name: 'last' },
      { opType: 'ReduceMax', inputs: ['z'], outputs: ['top'], attributes: { keepdims: { int: 0 } } },
      { opType: 'Less', inputs: ['top', 'limit'], outputs: ['small'] },
      {
        opType: 'If',
        inputs: ['small'],
        outputs: ['y'],
        name: 'choice',
        attributes: { then_branch: branch(0.5), else_branch: branch(2) },
      },
    ],
    initializers: {
      w0: noise([16, 3, 3, 3], 0.4),
      ...Object.fromEntries(['w1', 'w2', 'w3', 'w4', 'w5'].map((name) => [name, noise([16, 16, 3, 3], 0.2)])),
      w6: noise([16, 10], 0.5),
      limit: tensorFromFloats([], [1e9]),
    },
  });
}

describe('what parts', () => {
  const node = (ownDb: number, i: number): NodeError => ({
    ...{ node: `n${i}`, op: 'MatMul', tensor: `t${i}`, sqnrDb: ownDb, ownDb, ownGain: 1, nodes: [`n${i}`] },
  });
  const alike = [27, 25, 29, 26, 28, 30, 24, 27, 26, 28].map(node);
  const apart = [60, 20, 45, 30, 55, 25, 50, 35, 40, 58].map(node);
  test('is far from nodes that err alike, and farther from nodes that do not', () => {
    expect(firstDivergence(alike, undefined).first).toBeNull();
    expect(firstDivergence([...alike, node(13, 99)], undefined).first?.node).toBe('n99');
    expect(firstDivergence([...apart, node(19, 99)], undefined)).toMatchObject({ first: null, floorDb: 15 });
    expect(firstDivergence([...alike, node(13, 99)], 12).first).toBeNull();
  });
});
