import { buildModel, type NewModel, type NewTensor, tensorFromFloats, tensorFromInts } from '@flotilla/onnx';
import type { Tensors, TensorValue } from '@flotilla/runtime';
import { expect, test } from 'vitest';
import { openModelSession } from '../src/calibrate/model-session.ts';
import { applyRecipe, parseRecipe } from '../src/index.ts';

const recipe = parseRecipe('name: t\npasses: [{ pass: upgrade-opset }]');
const ramp = (dims: readonly number[]): TensorValue => ({
  dtype: 'float32',
  dims,
  data: Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(i * 1.7) * 5),
});
const feeds: Tensors = { x: ramp([2, 3, 4, 6]) };

function oneNode(
  opset: number,
  node: NewModel['nodes'][number],
  initializers: { [name: string]: NewTensor } = {},
  outputs = ['y'],
) {
  return buildModel({
    opset,
    irVersion: 6,
    inputs: [{ name: 'x', type: { dtype: 'float32', dims: [2, 3, 4, 6] } }],
    outputs: outputs.map((name) => ({ name, type: undefined })),
    nodes: [node],
    initializers,
  });
}

const ints = (...values: number[]) => ({ ints: values });
const channel = (fill: number) => tensorFromFloats([3], new Float32Array(3).fill(fill));

test.each<[string, number, NewModel['nodes'][number], { [name: string]: NewTensor }?, string[]?]>([
  ['ReduceSum', 9, { opType: 'ReduceSum', inputs: ['x'], outputs: ['y'], attributes: { axes: ints(1, 2) } }],
  [
    'ReduceMean',
    9,
    { opType: 'ReduceMean', inputs: ['x'], outputs: ['y'], attributes: { axes: ints(-1), keepdims: { int: 0 } } },
  ],
  ['ReduceMax without axes', 12, { opType: 'ReduceMax', inputs: ['x'], outputs: ['y'] }],
  ['Unsqueeze', 9, { opType: 'Unsqueeze', inputs: ['x'], outputs: ['y'], attributes: { axes: ints(0, 3) } }],
  ['Clip', 9, { opType: 'Clip', inputs: ['x'], outputs: ['y'], attributes: { min: { float: -1 }, max: { float: 2 } } }],
  [
    'Clip with a maximum alone',
    9,
    { opType: 'Clip', inputs: ['x'], outputs: ['y'], attributes: { max: { float: 2 } } },
  ],
  [
    'Pad',
    9,
    {
      opType: 'Pad',
      inputs: ['x'],
      outputs: ['y'],
      attributes: { pads: ints(0, 0, 1, 2, 0, 0, 0, 3), value: { float: 7 } },
    },
  ],
  [
    'Pad by reflection',
    9,
    {
      opType: 'Pad',
      inputs: ['x'],
      outputs: ['y'],
      attributes: { mode: { string: 'reflect' }, pads: ints(0, 0, 1, 2, 0, 0, 0, 3) },
    },
  ],
  [
    'Slice',
    9,
    {
      opType: 'Slice',
      inputs: ['x'],
      outputs: ['y'],
      attributes: { starts: ints(1, -3), ends: ints(3, 1000), axes: ints(1, 3) },
    },
  ],
  ['TopK', 9, { opType: 'TopK', inputs: ['x'], outputs: ['y', 'i'], attributes: { k: { int: 2 } } }, {}, ['y', 'i']],
  [
    'Split by lengths',
    9,
    { opType: 'Split', inputs: ['x'], outputs: ['y', 'z'], attributes: { axis: { int: 3 }, split: ints(2, 4) } },
    {},
    ['y', 'z'],
  ],
  [
    'Split evenly',
    13,
    { opType: 'Split', inputs: ['x'], outputs: ['y', 'z'], attributes: { axis: { int: 3 } } },
    {},
    ['y', 'z'],
  ],
  [
    'Softmax over what it flattens',
    9,
    { opType: 'Softmax', inputs: ['x'], outputs: ['y'], attributes: { axis: { int: 2 } } },
  ],
  ['Softmax with the default axis', 11, { opType: 'Softmax', inputs: ['x'], outputs: ['y'] }],
  [
    'Softmax over the last axis',
    9,
    { opType: 'Softmax', inputs: ['x'], outputs: ['y'], attributes: { axis: { int: 3 } } },
  ],
  ['LogSoftmax', 9, { opType: 'LogSoftmax', inputs: ['x'], outputs: ['y'], attributes: { axis: { int: 1 } } }],
  ['Dropout', 10, { opType: 'Dropout', inputs: ['x'], outputs: ['y'], attributes: { ratio: { float: 0.3 } } }],
  [
    'Upsample',
    9,
    { opType: 'Upsample', inputs: ['x', 's'], outputs: ['y'], attributes: { mode: { string: 'nearest' } } },
    { s: tensorFromFloats([4], Float32Array.of(1, 1, 2, 3)) },
  ],
  [
    'Upsample of opset 7',
    7,
    {
      opType: 'Upsample',
      inputs: ['x'],
      outputs: ['y'],
      attributes: { mode: { string: 'linear' }, scales: { floats: [1, 1, 2, 2] } },
    },
  ],
  [
    'Resize of opset 10',
    10,
    { opType: 'Resize', inputs: ['x', 's'], outputs: ['y'], attributes: { mode: { string: 'linear' } } },
    { s: tensorFromFloats([4], Float32Array.of(1, 1, 2, 1.5)) },
  ],
  [
    'BatchNormalization',
    7,
    { opType: 'BatchNormalization', inputs: ['x', 'a', 'b', 'c', 'd'], outputs: ['y'] },
    { a: channel(2), b: channel(1), c: channel(0.5), d: channel(4) },
  ],
  [
    'GroupNormalization',
    18,
    { opType: 'GroupNormalization', inputs: ['x', 'a', 'b'], outputs: ['y'], attributes: { num_groups: { int: 1 } } },
    { a: tensorFromFloats([1], [2]), b: tensorFromFloats([1], [0.5]) },
  ],
  [
    'Scatter',
    9,
    { opType: 'Scatter', inputs: ['x', 'i', 'u'], outputs: ['y'], attributes: { axis: { int: 3 } } },
    { i: tensorFromInts('int64', [1, 1, 1, 2], [4, 1]), u: tensorFromFloats([1, 1, 1, 2], Float32Array.of(9, 8)) },
  ],
])('%s keeps its meaning from opset %i to 21', async (_name, opset, node, initializers, outputs) => {
  const source = oneNode(opset, node, initializers, outputs);
  const { model } = await applyRecipe(source, recipe, {
    calibrationData: {
      async *samples() {
        yield { inputs: feeds };
      },
    },
  });
  expect(model.opset.get('')).toBe(21);
  const [before, after] = [await openModelSession(source), await openModelSession(model)];
  const [a, b] = [await before.run(feeds), await after.run(feeds)];
  await before.close();
  await after.close();
  for (const name of Object.keys(a)) {
    expect(b[name]?.dims).toEqual(a[name]?.dims);
    for (const [i, value] of (a[name]?.data ?? []).entries())
      expect(Number(b[name]?.data[i])).toBeCloseTo(Number(value), 5);
  }
});

test('an initializer that opset 9 lists as an input too becomes a constant', async () => {
  const info = (name: string, dims: number[]) => ({ name, type: { dtype: 'float32' as const, dims } });
  const source = buildModel({
    opset: 9,
    irVersion: 3,
    inputs: [info('x', [2]), info('w', [2])],
    outputs: [{ name: 'y', type: { dtype: 'float32', dims: [2] } }],
    nodes: [{ opType: 'Add', inputs: ['x', 'w'], outputs: ['y'] }],
    initializers: { w: tensorFromFloats([2], Float32Array.of(1, 2)) },
  });
  const { model } = await applyRecipe(source, recipe);
  expect(model.graph.inputs.map(({ name }) => name)).toEqual(['x']);
});

test.each([
  ['#20 opset 1', 1, 'Relu', /opset 1/],
  ['#20 opset 6', 6, 'Relu', /opset 6/],
  ['GroupNormalization of opset 18', 18, 'GroupNormalization', /scale is per group/],
])('%s is refused in words', async (_name, opset, opType, message) => {
  const inputs = opType === 'Relu' ? ['x'] : ['x', 'x', 'x'];
  const node = { opType, inputs, outputs: ['y'], attributes: opType === 'Relu' ? {} : { num_groups: { int: 3 } } };
  await expect(applyRecipe(oneNode(opset, node, { a: channel(1) }), recipe)).rejects.toThrow(message);
});
