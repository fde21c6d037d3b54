import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadBoard } from '@flotilla/boards';
import {
  buildModel,
  type Model,
  type NewModel,
  type NewTensor,
  openModel,
  tensorFromFloats,
  tensorFromInts,
  tensorInfo,
  writeModel,
} from '@flotilla/onnx';
import { openSession } from '@flotilla/runtime';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { findCliffs } from '../src/cliff/find-cliffs.ts';
import { findUnfused } from '../src/cliff/find-unfused.ts';
import { refuseCliffs } from '../src/cliff/refuse-cliffs.ts';

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'cliff-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

const y = { name: 'y', type: undefined };
const bytes = (count: number): NewTensor => ({ dtype: 'uint8', dims: [count], bytes: new Uint8Array(count) });

/** One MatMulNBits, 64 × 32 in blocks of 32, as it should be but for what is given. */
function product(attributes: { [name: string]: number }, inputs: { zero?: NewTensor; order?: NewTensor } = {}): Model {
  const { zero, order } = inputs;
  const model = buildModel({
    opset: 21,
    inputs: [tensorInfo('x', 'float32', [1, 64])],
    outputs: [y],
    nodes: [
      {
        opType: 'MatMulNBits',
        domain: 'com.microsoft',
        name: 'head',
        inputs: ['x', 'q', 'scale', zero ? 'zero' : '', order ? 'order' : ''],
        outputs: ['y'],
        attributes: Object.fromEntries(
          Object.entries({ K: 64, N: 32, bits: 4, block_size: 32, accuracy_level: 4, ...attributes }).map(
            ([name, int]) => [name, { int }],
          ),
        ),
      },
    ],
    initializers: {
      q: { dtype: 'uint8', dims: [32, 2, 16], bytes: new Uint8Array(1024) },
      scale: tensorFromFloats([64], new Float32Array(64)),
      ...(zero && { zero }),
      ...(order && { order }),
    },
  });
  return model;
}

describe('generic paths, by rule', () => {
  test('none where a product is as it should be', () => {
    expect(findCliffs(product({}).graph, 'x64')).toEqual([]);
    expect(findCliffs(product({}, { zero: bytes(32) }).graph, 'arm64-dotprod')).toEqual([]);
    expect(findCliffs(product({ accuracy_level: 1 }).graph, 'x64')).toEqual([]);
  });
  test.each<[string, Model, RegExp]>([
    ['no accuracy level', product({ accuracy_level: 0 }), /no accuracy level/],
    ['float activations of 8-bit weights', product({ accuracy_level: 1, bits: 8 }), /multiplies floats/],
    [
      'columns in another order',
      product({}, { order: tensorFromInts('int32', [64], new Array<number>(64).fill(0)) }),
      /g_idx/,
    ],
    ['a block of 512', product({ block_size: 512 }), /blocks of 512 have no fast kernel/],
    [
      'float zero points',
      product({}, { zero: tensorFromFloats([64], new Float32Array(64)) }),
      /zero points are float32/,
    ],
  ])('%s', (_, model, reason) => {
    expect(findCliffs(model.graph, 'x64')).toMatchObject([{ node: 'head', reason: expect.stringMatching(reason) }]);
  });
  test('8 bits without a dot product, and the error has the mend', async () => {
    const board = await loadBoard('raspberrypi-4b');
    const cliffs = findCliffs(product({ bits: 8 }).graph, board.boardClass);
    expect(() => refuseCliffs(cliffs, board, false)).toThrow(
      expect.objectContaining({
        code: 'compiler/cliff',
        where: 'head',
        hint: expect.stringContaining('DynamicQuantizeMatMul'),
      }),
    );
    expect(refuseCliffs(cliffs, board, true)).toEqual([expect.stringContaining('generic path')]);
  });
});

/** Conv between integers, with or without a QuantizeLinear behind it. */
function convolution(quantizedAfter: boolean): Model {
  const dq = (inputs: string[], output: string, axis?: number) => ({
    opType: 'DequantizeLinear',
    inputs,
    outputs: [output],
    attributes: axis === undefined ? {} : { axis: { int: axis } },
  });
  const nodes: NewModel['nodes'][number][] = [
    { opType: 'QuantizeLinear', inputs: ['x', 's', 'z'], outputs: ['xq'] },
    dq(['xq', 's', 'z'], 'xd'),
    dq(['wq', 'ws', 'wz'], 'w', 0),
    { opType: 'Conv', name: 'stem', inputs: ['xd', 'w'], outputs: [quantizedAfter ? 'c' : 'y'] },
  ];
  if (quantizedAfter)
    nodes.push({ opType: 'QuantizeLinear', inputs: ['c', 's', 'z'], outputs: ['cq'] }, dq(['cq', 's', 'z'], 'y'));
  return buildModel({
    opset: 21,
    inputs: [tensorInfo('x', 'float32', [1, 2, 8, 8])],
    outputs: [y],
    nodes,
    initializers: {
      s: tensorFromFloats([], Float32Array.of(0.1)),
      z: { dtype: 'uint8', dims: [], bytes: Uint8Array.of(128) },
      wq: { dtype: 'int8', dims: [4, 2, 3, 3], bytes: new Uint8Array(72).fill(3) },
      ws: tensorFromFloats([4], new Float32Array(4).fill(0.1)),
      wz: { dtype: 'int8', dims: [4], bytes: new Uint8Array(4) },
    },
  });
}

test('what ONNX Runtime left in float is told from what it fused', async () => {
  const optimized = async (model: Model): Promise<Model> => {
    const [path, optimizedPath] = [join(dir, 'model.onnx'), join(dir, 'optimized.onnx')];
    await writeModel(model, path);
    await (await openSession(path, { optimizedPath })).close();
    return openModel(optimizedPath);
  };
  expect(findUnfused((await optimized(convolution(true))).graph)).toEqual([]);
  expect(findUnfused((await optimized(convolution(false))).graph)).toMatchObject([
    { node: 'stem', reason: expect.stringContaining('not quantized has no integer kernel') },
  ]);
  // Float weights behind integers: left so on purpose.
  const kept = convolution(false);
  kept.graph.addInitializer('floats', tensorFromFloats([4, 2, 3, 3], new Float32Array(72).fill(0.3)));
  kept.graph.nodes.find(({ name }) => name === 'stem')?.setInput(1, 'floats');
  kept.graph.removeDead();
  expect(findUnfused((await optimized(kept)).graph)).toEqual([]);
});
