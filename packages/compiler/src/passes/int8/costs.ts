import type { BoardClass } from '@flotilla/boards';
import type { Node } from '@flotilla/onnx';
import type { Role } from './plan.ts';

/** Nanoseconds on one core, per multiplication or per element, as ONNX Runtime's profiler gives them. */
export interface Costs {
  /** A multiplication in a convolution or product: float, and u8 · s8. */
  readonly product: Pair;
  /** The same in a depthwise convolution. */
  readonly depthwise: Pair;
  /** Between integers and floats: rounding, and the layouts (channels last for integers, blocks of channels for floats). */
  readonly convolutionEdge: number;
  /** The same before a matrix product, which has one layout; what it gives is float at no cost. */
  readonly productEdge: number;
}

interface Pair {
  readonly float: number;
  readonly int8: number;
}

/**
 * Zen 3 (AVX2, no VNNI): 1×1 convolutions of 240 to 384 channels 40 and 80 products a ns, depthwise 5×5 29 and 22. With
 * VNNI the products are 3.6 times as fast as float ones (design notes), the rest is the same.
 */
const X64: Costs = {
  product: { float: 0.025, int8: 0.0125 },
  depthwise: { float: 0.035, int8: 0.046 },
  convolutionEdge: 1.2,
  productEdge: 0.4,
};

/** Undefined where nothing was measured: there every node that can be is in integers. A portable model is for any CPU. */
export function costsOf(boardClass: BoardClass | undefined): Costs | undefined {
  if (boardClass === undefined || boardClass === 'x64') return X64;
  return boardClass === 'x64-vnni' ? { ...X64, product: { float: 0.025, int8: 0.007 } } : undefined;
}

/**
 * What lies between linear nodes, per element of its result. Float hard-swish, Relu and Clip are part of the convolution
 * before. MaxPool of integers has a kernel of its own right behind a convolution, else it goes element by element.
 */
export function elementCost(node: Node, role: Role): Pair {
  switch (role.kind) {
    case 'gate':
      return { float: 0, int8: 0.06 };
    case 'reread':
      return { float: 0.45, int8: 0 };
    case 'move':
      if (node.opType === 'MaxPool') return { float: 1, int8: poolsConvolution(node) ? 0.5 : 20 };
      return { float: 0.3, int8: 0.1 };
    case 'compute':
      return isGated(node) ? { float: 0, int8: 0.28 } : { float: 0.45, int8: 0.28 };
    case 'core':
    case 'stored':
    case 'saturate':
      return { float: 0, int8: 0 };
  }
}

function poolsConvolution({ graph, inputs: [x = ''] }: Node): boolean {
  const producer = graph.producer(x);
  const before = ['Relu', 'Clip'].includes(producer?.opType ?? '')
    ? graph.producer(producer?.inputs[0] ?? '')
    : producer;
  return before?.opType === 'Conv';
}

/** `x · hard-sigmoid(x)`. */
export function isGated(node: Node): boolean {
  if (node.opType !== 'Mul') return false;
  return [0, 1].some((index) => {
    const gate = node.graph.producer(node.inputs[index] ?? '');
    return gate?.opType === 'HardSigmoid' && gate.inputs[0] === node.inputs[1 - index];
  });
}
