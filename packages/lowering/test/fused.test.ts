import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadBoard } from '@flotilla/boards';
import { lowerModel } from '@flotilla/lowering';
import {
  buildModel,
  type NewNode,
  type NewTensor,
  tensorFromFloats,
  tensorFromInts,
  tensorInfo,
  writeModel,
} from '@flotilla/onnx';
import { profileOperators } from '@flotilla/runtime';
import { expect, test } from 'vitest';
import { randoms } from './run.ts';

const small = (length: number) => Array.from(randoms(length), (value) => Math.round(value * 100));

const initializers: { [name: string]: NewTensor } = {
  xs: tensorFromFloats([], [0.02]),
  xz: tensorFromInts('uint8', [], [128]),
  conv: tensorFromInts('int8', [8, 4, 3, 3], small(8 * 36)),
  convScale: tensorFromFloats([8], Array(8).fill(0.01)),
  square: tensorFromInts('int8', [8, 8], small(64)),
  squareScale: tensorFromFloats([8], Array(8).fill(0.01)),
  shape: tensorFromInts('int64', [2], [-1, 8]),
};

const node = (opType: string, inputs: string[], output: string, attributes = {}): NewNode => ({
  opType,
  name: `${output}-node`,
  inputs,
  outputs: [output],
  attributes,
});
/** A value, rounded to uint8 and read back. */
const pair = (value: string): NewNode[] => [
  node('QuantizeLinear', [value, 'xs', 'xz'], `${value}-q`),
  node('DequantizeLinear', [`${value}-q`, 'xs', 'xz'], `${value}-d`),
];
const weight = (name: string, axis: number) =>
  node('DequantizeLinear', [name, `${name}Scale`], `${name}-w`, { axis: { int: axis } });

test('the kernels that are named for int8 are the ones that ONNX Runtime runs', async () => {
  const model = buildModel({
    opset: 21,
    inputs: [tensorInfo('x', 'float32', [1, 4, 8, 8])],
    outputs: [tensorInfo('y', 'float32', ['n', 8])],
    initializers,
    nodes: [
      ...pair('x'),
      weight('conv', 0),
      node('Conv', ['x-d', 'conv-w'], 'c'),
      ...pair('c'),
      node('Reshape', ['c-d', 'shape'], 'r'),
      ...pair('r'),
      weight('square', 1),
      node('MatMul', ['r-d', 'square-w'], 'm'),
      ...pair('m'),
      node('Gemm', ['m-d', 'square-w'], 'g'),
      ...pair('g'),
      node('MatMul', ['g-d', 'square-w'], 'f'),
      // Dynamic int8, as the compiler writes it.
      { opType: 'DynamicQuantizeLinear', inputs: ['f'], outputs: ['fq', 'fs', 'fz'] },
      node('MatMulInteger', ['fq', 'square', 'fz'], 'i'),
      node('Cast', ['i'], 'if', { to: { int: 1 } }),
      node('Mul', ['fs', 'squareScale'], 's'),
      node('Mul', ['if', 's'], 'y'),
    ],
  });
  const { model: lowered, session, choices } = lowerModel(model, await loadBoard('host'));
  expect(choices.map(({ node: name, kernel }) => [name, kernel])).toEqual([
    ['c-node', 'QLinearConv'],
    ['m-node', 'QLinearMatMul'],
    ['g-node', 'QGemm'],
    ['f-node', 'MatMulIntegerToFloat'],
    ['i-node', 'DynamicQuantizeMatMul'],
  ]);
  const path = join(await mkdtemp(join(tmpdir(), 'lowering-')), 'model.onnx');
  await writeModel(lowered, path);
  const feeds = { x: { dtype: 'float32' as const, dims: [1, 4, 8, 8], data: randoms(256) } };
  const ran = (await profileOperators(path, [feeds], { config: session, runs: 2 })).map(({ op }) => op);
  expect(ran).toEqual(expect.arrayContaining(choices.map(({ kernel }) => kernel)));
  for (const op of ['Conv', 'MatMul', 'Gemm', 'MatMulInteger']) expect(ran).not.toContain(op);
});
