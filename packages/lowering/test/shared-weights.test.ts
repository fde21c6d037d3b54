import { loadBoard } from '@flotilla/boards';
import { lowerModel } from '@flotilla/lowering';
import { buildModel, tensorFromFloats, tensorFromInts, tensorInfo } from '@flotilla/onnx';
import { expect, test } from 'vitest';
import { randoms, runOrt } from './run.ts';

test('two products that read one weight, whose sums would overflow, are scaled so that it stays one, and load', async () => {
  const product = (input: string, output: string) => ({ opType: 'MatMul', inputs: [input, 'w'], outputs: [output] });
  const model = buildModel({
    opset: 21,
    inputs: [tensorInfo('x', 'float32', [2, 32])],
    outputs: [tensorInfo('y', 'float32', [2, 32])],
    nodes: [
      { opType: 'DequantizeLinear', inputs: ['q', 's'], outputs: ['w'], attributes: { axis: { int: 1 } } },
      product('x', 'once'),
      product('once', 'y'),
    ],
    initializers: {
      // Neighbours of a row sum to more than 128.
      q: tensorFromInts('int8', [32, 32], Array(1024).fill(127)),
      s: tensorFromFloats([32], Array(32).fill(0.001)),
    },
  });
  const { model: lowered, session, choices } = lowerModel(model, await loadBoard('raspberrypi-4b'));
  expect(choices.map(({ kernel }) => kernel)).toEqual(['DynamicQuantizeMatMul', 'DynamicQuantizeMatMul']);
  expect(session).not.toHaveProperty('session.x64quantprecision');
  const x = { x: { dims: [2, 32], data: randoms(64) } };
  expect(await runOrt(lowered, x, { config: session })).toHaveLength(64);
});
