import { type NewTensor, tensorFromFloats } from '@flotilla/onnx';
import { packNibbles, quantizeInt4, roundHalfEven } from '@flotilla/quant';
import { LoweringError } from './errors.ts';
import { forEachElement, type QuantizedConstant } from './quantized-constant.ts';

/** A weight in the form that another had: what its DequantizeLinear reads. */
export interface Requantized {
  readonly q: NewTensor;
  readonly scale: NewTensor;
  readonly zeroPoint: NewTensor | undefined;
}

/**
 * Rounds changed weights to nearest, in the form of the constant that they came from. Blocks of 4 bits get ranges and
 * zero points of their own again; anything else keeps its scales, which other constants (int32 biases) may stand on, and
 * what lies beyond them is cut.
 * @param w in the tensor's layout
 * @throws {LoweringError} `lowering/rebuild` for 32 bits
 */
export function requantize(constant: QuantizedConstant, w: Float32Array): Requantized {
  const { node, tensor, bits, block } = constant;
  if (bits === 32) throw new LoweringError('lowering/rebuild', `${tensor.name} is int32`, { where: node.name });
  return bits === 4 && block > 0 ? newBlocks(constant, w) : oldScales(constant, w);
}

function newBlocks({ node, tensor, rows, cols, inner, block, scale }: QuantizedConstant, w: Float32Array): Requantized {
  const symmetric = tensor.dtype === 'int4' && !node.inputs[2];
  const blocks = quantizeInt4(w, { rows, cols, inner, block, symmetric, bf16Scales: isBfloat16(scale) });
  const dtype = symmetric ? 'int4' : 'uint4';
  const dims = node.graph.constant(node.inputs[1] ?? '')?.dims ?? [];
  return {
    q: { dtype, dims: tensor.dims, bytes: blocks.q },
    scale: tensorFromFloats(dims, blocks.scale),
    zeroPoint: blocks.zeroPoint && { dtype, dims, bytes: blocks.zeroPoint },
  };
}

/** Whether all scales are such as bfloat16 holds: then they were made so, for kernels that cut them. */
function isBfloat16(scale: Float32Array): boolean {
  return new Uint32Array(scale.buffer, scale.byteOffset, scale.length).every((word) => (word & 0xffff) === 0);
}

function oldScales(constant: QuantizedConstant, w: Float32Array): Requantized {
  const { node, tensor, bits, scale, zeroPoint } = constant;
  const isSigned = !tensor.dtype.startsWith('u');
  const low = isSigned ? -(2 ** (bits - 1)) : 0;
  const high = low + 2 ** bits - 1;
  const q = new Int16Array(w.length);
  forEachElement(constant, (at, s) => {
    const level = roundHalfEven(Math.fround((w[at] ?? 0) / (scale[s] ?? 1))) + (zeroPoint?.[s] ?? 0);
    q[at] = Math.max(low, Math.min(high, level));
  });
  const old = (input: number): NewTensor | undefined => {
    const found = node.graph.constant(node.inputs[input] ?? '');
    return found && { dtype: found.dtype, dims: found.dims, bytes: found.bytes() };
  };
  return {
    q: {
      dtype: tensor.dtype,
      dims: tensor.dims,
      bytes: bits === 4 ? packNibbles(Uint8Array.from(q)) : Uint8Array.from(q),
    },
    scale: old(1) ?? tensorFromFloats([], scale),
    zeroPoint: old(2),
  };
}
