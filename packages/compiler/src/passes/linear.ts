import { floats, type Node, type Tensor, tensorFromFloats } from '@flotilla/onnx';
import { floatConstant, setConstant } from './edit.ts';

/** A node that multiplies by constant weights, and where its channels lie in them. */
export interface LinearNode {
  readonly node: Node;
  readonly weight: Tensor;
  /** Constant, or absent; undefined also for MatMul, which has none. */
  readonly bias: Tensor | undefined;
  /** True where other nodes read the same weights: scaling them here would make a second copy. */
  readonly shared: boolean;
  readonly outputChannels: number;
  readonly inputChannels: number;
  /** Which output channel the weight at a flat index belongs to. */
  outputChannel(index: number): number;
  /** Which input channel it reads. */
  inputChannel(index: number): number;
}

/**
 * Conv, ConvTranspose, Gemm (α = β = 1, A not transposed) and MatMul with a constant float32 matrix on the right;
 * undefined for anything else.
 */
export function linearNode(node: Node): LinearNode | undefined {
  if (node.domain !== '') return undefined;
  const weight = floatConstant(node, 1);
  const biased = (node.inputs[2] ?? '') !== '';
  const bias = floatConstant(node, 2);
  if (!weight || (biased && !bias)) return undefined;
  const [a = 0, b = 0, ...kernel] = weight.dims;
  const inner = kernel.reduce((product, dim) => product * dim, 1);
  const base = { node, weight, bias, shared: node.graph.consumers(node.inputs[1] ?? '').length > 1 };
  switch (node.opType) {
    case 'Conv': {
      const group = node.int('group', 1);
      if (weight.dims.length < 3 || a % group !== 0) return undefined;
      const perGroup = a / group;
      return {
        ...base,
        outputChannels: a,
        inputChannels: b * group,
        outputChannel: (index) => Math.floor(index / (b * inner)),
        inputChannel: (index) => {
          const output = Math.floor(index / (b * inner));
          return Math.floor(output / perGroup) * b + (Math.floor(index / inner) % b);
        },
      };
    }
    case 'ConvTranspose': {
      const group = node.int('group', 1);
      if (weight.dims.length < 3 || a % group !== 0) return undefined;
      return {
        ...base,
        outputChannels: b * group,
        inputChannels: a,
        outputChannel: (index) =>
          Math.floor(Math.floor(index / (b * inner)) / (a / group)) * b + (Math.floor(index / inner) % b),
        inputChannel: (index) => Math.floor(index / (b * inner)),
      };
    }
    case 'Gemm': {
      if (node.float('alpha', 1) !== 1 || node.float('beta', 1) !== 1 || node.int('transA', 0) !== 0) return undefined;
      const transposed = node.int('transB', 0) !== 0;
      const [row, column] = [(index: number) => Math.floor(index / b), (index: number) => index % b];
      const outputChannels = transposed ? a : b;
      if (weight.dims.length !== 2 || (bias && bias.dims.join() !== `${outputChannels}`)) return undefined;
      return {
        ...base,
        outputChannels,
        inputChannels: transposed ? b : a,
        outputChannel: transposed ? row : column,
        inputChannel: transposed ? column : row,
      };
    }
    case 'MatMul':
      if (weight.dims.length !== 2) return undefined;
      return {
        ...base,
        bias: undefined,
        outputChannels: b,
        inputChannels: a,
        outputChannel: (index) => index % b,
        inputChannel: (index) => Math.floor(index / b),
      };
    default:
      return undefined;
  }
}

/** Makes the node compute `scale · y + shift` per output channel. MatMul takes no shift: it must be undefined. */
export function scaleOutput(linear: LinearNode, scale: Float32Array, shift: Float32Array | undefined): void {
  const { node, weight, bias, outputChannels } = linear;
  const w = floats(weight).map((value, index) => value * (scale[linear.outputChannel(index)] ?? 0));
  setConstant(node, 1, tensorFromFloats(weight.dims, w));
  if (!bias && !shift) return;
  const old = bias ? floats(bias) : new Float32Array(outputChannels);
  const b = old.map((value, c) => value * (scale[c] ?? 0) + (shift?.[c] ?? 0));
  setConstant(node, 2, tensorFromFloats([outputChannels], b), 'bias');
}

/** Makes the node read `scale · x + shift` per input channel. A shift is exact only where nothing is padded. */
export function scaleInput(linear: LinearNode, scale: Float32Array, shift: Float32Array | undefined): void {
  const { node, weight, bias, outputChannels } = linear;
  const old = floats(weight);
  const b = bias ? floats(bias).slice() : new Float32Array(outputChannels);
  const w = old.map((value, index) => {
    const input = linear.inputChannel(index);
    const output = linear.outputChannel(index);
    if (shift) b[output] = (b[output] ?? 0) + value * (shift[input] ?? 0);
    return value * (scale[input] ?? 0);
  });
  setConstant(node, 1, tensorFromFloats(weight.dims, w));
  if (shift) setConstant(node, 2, tensorFromFloats([outputChannels], b), 'bias');
}
