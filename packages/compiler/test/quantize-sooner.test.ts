import { buildModel, cloneModel, type Model, type NewNode, tensorFromFloats } from '@flotilla/onnx';
import type { Tensors } from '@flotilla/runtime';
import { expect, test } from 'vitest';
import { openModelSession } from '../src/calibrate/model-session.ts';
import { quantizeSooner } from '../src/passes/int8/quantize-sooner.ts';

const node = (opType: string, inputs: readonly string[], output: string, attributes = {}): NewNode => ({
  opType,
  inputs,
  outputs: [output],
  attributes,
});
const resize = (mode: string, scales = 'twice') =>
  node('Resize', ['a', '', scales], 'u', {
    mode: { string: mode },
    coordinate_transformation_mode: { string: 'asymmetric' },
    nearest_mode: { string: 'floor' },
  });
const concat = (...inputs: string[]) => node('Concat', inputs, 'c', { axis: { int: 1 } });

/** x [1, 2, 3, 4] and d [1, 2, 6, 8] go through `nodes` to c, which is quantized. */
function source(nodes: readonly NewNode[], outputs: readonly string[] = []): Model {
  return buildModel({
    opset: 17,
    inputs: [
      { name: 'x', type: { dtype: 'float32', dims: [1, 2, 3, 4] } },
      { name: 'd', type: { dtype: 'float32', dims: [1, 2, 6, 8] } },
    ],
    outputs: ['y', ...outputs].map((name) => ({ name, type: undefined })),
    nodes: [
      node('Relu', ['x'], 'a'),
      node('Relu', ['d'], 'e'),
      ...nodes,
      node('QuantizeLinear', ['c', 'scale', 'zero'], 'q'),
      node('DequantizeLinear', ['q', 'scale', 'zero'], 'y'),
    ],
    initializers: {
      half: tensorFromFloats([4], Float32Array.of(1, 1, 0.5, 0.5)),
      twice: tensorFromFloats([4], Float32Array.of(1, 1, 2, 2)),
      scale: tensorFromFloats([], Float32Array.of(0.03)),
      other: tensorFromFloats([], Float32Array.of(0.02)),
      some: tensorFromFloats([1, 1, 6, 8], new Float32Array(48)),
      zero: { dtype: 'uint8', dims: [], bytes: Uint8Array.of(3) },
    },
  });
}

const feed = (dims: readonly number[]) => {
  const length = dims.reduce((a, b) => a * b, 1);
  return { dtype: 'float32' as const, dims, data: Float32Array.from({ length }, (_, i) => Math.sin(i) * 4) };
};
const feeds: Tensors = { x: feed([1, 2, 3, 4]), d: feed([1, 2, 6, 8]) };

async function answer(model: Model): Promise<unknown> {
  const session = await openModelSession(model);
  const { y } = await session.run(feeds);
  await session.close();
  return y;
}

const operators = (model: Model) => model.graph.nodes.map(({ opType }) => opType).join(' ');

test('floats are quantized before they are repeated and joined, to the bit', async () => {
  const before = source([resize('nearest'), concat('u', 'd', 'u')]);
  const after = cloneModel(before);
  quantizeSooner(after.graph);
  expect(operators(after)).toBe('Relu Relu QuantizeLinear Resize QuantizeLinear Concat DequantizeLinear');
  expect(await answer(after)).toEqual(await answer(before));
});

const integers = (name: string) => [
  node('QuantizeLinear', [name, 'other', 'zero'], `${name}_q`),
  node('DequantizeLinear', [`${name}_q`, 'other', 'zero'], `${name}_i`),
];

test.each<[string, Model]>([
  ['someone else reads the floats', source([concat('e', 'd')], ['c'])],
  ['they are interpolated', source([{ ...resize('linear'), outputs: ['c'] }])],
  ['most of them are left out', source([{ ...resize('nearest', 'half'), outputs: ['c'] }])],
  ['only integers are joined', source([...integers('e'), ...integers('d'), concat('e_i', 'd_i')])],
  ['a constant is joined', source([concat('e', 'some')])],
])('not where %s', (_, model) => {
  const before = operators(model);
  quantizeSooner(model.graph);
  expect(operators(model)).toBe(before);
});
