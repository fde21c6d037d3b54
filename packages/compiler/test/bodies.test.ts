import {
  buildModel,
  checkModel,
  type Model,
  type NewGraph,
  type NewTensor,
  tensorFromFloats,
  tensorFromInts,
  tensorInfo,
} from '@flotilla/onnx';
import type { Tensors } from '@flotilla/runtime';
import { expect, test } from 'vitest';
import { suitableInputs } from '../src/calibrate/made-up-inputs.ts';
import { openModelSession } from '../src/calibrate/model-session.ts';
import { seededRandom } from '../src/calibrate/seeded-random.ts';
import { applyRecipe, parseRecipe } from '../src/index.ts';

const random = seededRandom(5);
const noise = (...dims: number[]): NewTensor =>
  tensorFromFloats(
    dims,
    Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => random() * 2 - 1),
  );
const ints = (...values: number[]): NewTensor => tensorFromInts('int64', [values.length], values);
const out = (name: string) => ({ name, type: undefined });

/** A sampling rate picks the branch; both read outer names: a value that passes rename, weights, and the input as it is. */
function branching(): Model {
  const gates = 'w r b'.split(' ');
  const lstm = (suffix: string) => ({
    opType: 'LSTM',
    name: `lstm${suffix}`,
    inputs: ['seq', ...gates],
    outputs: ['', `h${suffix}`],
    attributes: { hidden_size: { int: 16 } },
  });
  const branch = (suffix: string, weight: string): NewGraph => ({
    name: `branch${suffix}`,
    inputs: [],
    outputs: [out(`p${suffix}`), out(`h${suffix}`), out(`s${suffix}`)],
    nodes: [
      { opType: 'MatMul', name: `product${suffix}`, inputs: ['same', weight], outputs: [`p${suffix}`] },
      lstm(suffix),
      { opType: 'Identity', inputs: ['same'], outputs: [`s${suffix}`] },
    ],
  });
  return buildModel({
    opset: 16,
    inputs: [tensorInfo('x', 'float32', ['n', 64]), tensorInfo('rate', 'int64', [])],
    outputs: [out('p'), out('h'), out('s')],
    nodes: [
      { opType: 'Identity', inputs: ['x'], outputs: ['same'] },
      { opType: 'Unsqueeze', inputs: ['same', 'axis'], outputs: ['seq'] },
      { opType: 'Equal', inputs: ['rate', 'rates'], outputs: ['fast'] },
      {
        opType: 'If',
        inputs: ['fast'],
        outputs: ['p', 'h', 's'],
        attributes: { then_branch: { graph: branch('0', 'u') }, else_branch: { graph: branch('1', 'v') } },
      },
    ],
    initializers: {
      axis: ints(1),
      rates: tensorFromInts('int64', [], [16000]),
      u: noise(64, 48),
      v: noise(64, 48),
      w: noise(1, 64, 64),
      r: noise(1, 64, 16),
      b: noise(1, 128),
    },
  });
}

async function run(model: Model, feeds: Tensors): Promise<Tensors> {
  const session = await openModelSession(model);
  try {
    return await session.run(feeds);
  } finally {
    await session.close();
  }
}

const samples = (source: Model) => ({
  async *samples() {
    const session = await openModelSession(source);
    const feeds = await suitableInputs(session, source.graph);
    await session.close();
    for (const inputs of feeds) yield { inputs };
  },
});

test('inputs are made up for both branches, for two lengths and batches', async () => {
  const source = branching();
  const session = await openModelSession(source);
  const feeds = await suitableInputs(session, source.graph);
  await session.close();
  expect(feeds.map((one) => [Number(one['rate']?.data[0]), one['x']?.dims[0]])).toEqual([
    [16000, 1],
    [8000, 1],
    [16000, 2],
  ]);
});

test('#25 bodies read the same after passes renamed what they capture', async () => {
  const source = branching();
  const { model, rewriteCheck } = await applyRecipe(source, parseRecipe('name: t\npasses: [{ recipe: clean }]'));
  // ONNX Runtime wants the two in the bodies: an outer value is no body's output.
  expect([...model.graph.walk({ opType: 'Identity' })].map(({ inputs }) => inputs)).toEqual([['x'], ['x']]);
  expect(rewriteCheck).toMatchObject({ samples: 3, worst: 0 });
});

test.each(['quantize-int8-dynamic', 'calibrate }, { pass: quantize-int8-static'])(
  'weights in bodies are quantized by %s, shared ones once',
  async (passes) => {
    const source = branching();
    const recipe = parseRecipe(`name: t\npasses: [{ pass: upgrade-opset }, { pass: ${passes} }]`);
    const { model, notes } = await applyRecipe(source, recipe, { calibrationData: samples(source) });
    checkModel(model);
    const quantized = notes.filter(({ outcome }) => outcome === 'quantized').map(({ node }) => node);
    expect(quantized.toSorted()).toEqual(['lstm0', 'lstm1', 'product0', 'product1']);
    const readings = [...model.graph.walk({ opType: 'DequantizeLinear' })];
    expect(readings.filter(({ graph }) => graph === model.graph)).toHaveLength(2);
    for await (const { inputs } of samples(source).samples()) {
      const [wanted, found] = [await run(source, inputs), await run(model, inputs)];
      for (const name of ['p', 'h', 's']) {
        const [a, b] = [wanted[name]?.data, found[name]?.data].map((data) => Float32Array.from(data ?? [], Number));
        const scale = Math.max(...(a ?? []).map(Math.abs));
        expect(Math.max(...(a ?? []).map((value, i) => Math.abs(value - (b?.[i] ?? 0)))) / scale).toBeLessThan(0.04);
      }
    }
  },
);

test('weights that two bodies take apart and put together in another order are computed once, outside', async () => {
  const slice = (from: number, to: number, output: string) => ({
    opType: 'Slice',
    inputs: ['w', `at${from}`, `at${to}`, 'axis'],
    outputs: [output],
  });
  const at = Object.fromEntries([0, 20, 40].map((index) => [`at${index}`, ints(index)]));
  const branch = (suffix: string): NewGraph => ({
    inputs: [],
    outputs: [out(`y${suffix}`)],
    nodes: [
      slice(20, 40, 'second'),
      slice(0, 20, 'first'),
      { opType: 'Concat', inputs: ['second', 'first'], outputs: ['turned'], attributes: { axis: { int: 0 } } },
      { opType: 'MatMul', inputs: ['x', 'turned'], outputs: [`m${suffix}`] },
      { opType: suffix === '0' ? 'Relu' : 'Neg', inputs: [`m${suffix}`], outputs: [`y${suffix}`] },
    ],
    initializers: { axis: ints(0), ...at },
  });
  const source = buildModel({
    opset: 16,
    inputs: [tensorInfo('x', 'float32', [3, 40]), tensorInfo('flag', 'bool', [])],
    outputs: [out('y')],
    nodes: [
      {
        opType: 'If',
        inputs: ['flag'],
        outputs: ['y'],
        attributes: { then_branch: { graph: branch('0') }, else_branch: { graph: branch('1') } },
      },
    ],
    initializers: { w: noise(40, 60) },
  });
  const recipe = parseRecipe('name: t\npasses: [{ pass: fold-constants }, { pass: remove-dead }]');
  const { model } = await applyRecipe(source, recipe);
  expect([...model.graph.walk()].map(({ opType }) => opType)).toEqual(['If', 'MatMul', 'Relu', 'MatMul', 'Neg']);
  expect([...model.graph.initializers.values()].map(({ dims }) => dims)).toEqual([[40, 60]]);
});
