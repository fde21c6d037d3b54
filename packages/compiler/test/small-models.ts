import { buildModel, type Model, type NewNode, type NewTensor, tensorFromFloats, tensorInfo } from '@flotilla/onnx';

/** Neighbours resemble each other, as activations do. */
export function input(dims: number[]): Float32Array {
  return Float32Array.from(
    { length: dims.reduce((a, b) => a * b, 1) },
    (_, i) => Math.sin(i * 1.3) + Math.sin(i / 9) + 0.5,
  );
}

export function build(
  nodes: NewNode[],
  initializers: { [name: string]: NewTensor },
  dims: number[],
  opset = 21,
): Model {
  const usesX = nodes.some(({ inputs }) => inputs.includes('x'));
  return buildModel({
    name: 'one',
    opset,
    inputs: usesX ? [tensorInfo('x', 'float32', dims)] : [],
    outputs: [tensorInfo('y', 'float32', undefined)],
    nodes,
    initializers,
  });
}

export function node(
  opType: string,
  inputs: string[],
  attributes: NonNullable<NewNode['attributes']> = {},
  output = 'y',
  name = opType,
): NewNode {
  return { opType, inputs, outputs: [output], attributes, name };
}

/** Fixed numbers that look random: bell-shaped, no pattern from row to row. */
export function noise(dims: number[]): NewTensor {
  let state = 7;
  const next = () => (state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0) / 2 ** 32;
  const length = dims.reduce((a, b) => a * b, 1);
  return tensorFromFloats(
    dims,
    Array.from({ length }, () => next() + next() + next() + next() - 2),
  );
}

export function energy(values: Float32Array): number {
  return values.reduce((sum, value) => sum + value * value, 0);
}

/** Two matrices, of which int4 takes the first. */
export function twoProducts(): Model {
  const noise = (rows: number, cols: number, seed: number) =>
    tensorFromFloats(
      [rows, cols],
      Float32Array.from({ length: rows * cols }, (_, i) => Math.sin((i + 1) * seed)),
    );
  return buildModel({
    opset: 17,
    inputs: [tensorInfo('x', 'float32', ['batch', 64])],
    outputs: [tensorInfo('y', 'float32', ['batch', 10])],
    nodes: [
      { opType: 'MatMul', inputs: ['x', 'w1'], outputs: ['a'], name: 'first' },
      { opType: 'Relu', inputs: ['a'], outputs: ['b'] },
      { opType: 'MatMul', inputs: ['b', 'w2'], outputs: ['y'], name: 'last' },
    ],
    initializers: { w1: noise(64, 96, 0.7), w2: noise(96, 10, 1.3) },
  });
}
