import { buildModel, floats, tensorFromFloats } from '@flotilla/onnx';
import { expect, test } from 'vitest';
import { setConstant } from '../src/passes/edit.ts';

const float = { dtype: 'float32', dims: [2] } as const;

function twoReaders() {
  const { graph } = buildModel({
    opset: 21,
    inputs: [{ name: 'x', type: float }],
    outputs: [{ name: 'y', type: float }],
    initializers: { w: tensorFromFloats([2], Float32Array.of(1, 2)) },
    nodes: [
      { opType: 'Add', inputs: ['x', 'w'], outputs: ['a'], name: 'first' },
      { opType: 'Mul', inputs: ['a', 'w'], outputs: ['y'], name: 'second' },
    ],
  });
  const [first, second] = graph.nodes;
  if (first === undefined || second === undefined) throw new Error('no nodes');
  return { graph, first, second };
}

test('a constant that is set anew leaves the old one to its other readers', () => {
  const { graph, first, second } = twoReaders();
  setConstant(first, 1, tensorFromFloats([2], Float32Array.of(3, 4)));
  const now = graph.constant(first.inputs[1] ?? '');
  expect(now && [...floats(now)]).toEqual([3, 4]);
  expect(second.inputs[1]).toBe('w');
  expect(graph.initializers.has('w')).toBe(true);
});

test('a constant that nobody reads any more is gone: it would travel to every device', () => {
  const { graph, first, second } = twoReaders();
  for (const node of [first, second]) setConstant(node, 1, tensorFromFloats([2], Float32Array.of(3, 4)));
  expect([...graph.initializers.keys()]).toHaveLength(2);
  expect(graph.initializers.has('w')).toBe(false);
});
