import { OnnxError } from '../errors.ts';
import { axisOf } from '../infer/op.ts';
import { describe, type GraphNode } from '../node.ts';
import { floats, integers } from '../numbers.ts';
import type { Dim, Tensor, ValueType } from '../types.ts';

/** Below it a float32 is subnormal: hardware that flushes those to zero would divide by it. */
const smallestNormal = 2 ** -126;

type Types = ReadonlyMap<string, ValueType>;

/**
 * Quantization parameters that are constants must be possible.
 * @see QuantizeLinear-25, DequantizeLinear-25; MatMulNBits in ONNX Runtime's contrib operators
 * @throws {OnnxError} `onnx/quant`, naming the node
 */
export function checkQuant(node: GraphNode, types: Types): void {
  const standard = node.domain === '' || node.domain === 'com.microsoft';
  if (!standard) return;
  if (node.opType === 'QuantizeLinear' || node.opType === 'DequantizeLinear') checkLinear(node, types);
  if (node.opType === 'MatMulNBits') checkNBits(node);
}

function checkLinear(node: GraphNode, types: Types): void {
  const constant = (i: number) => (node.inputs[i] ? node.graph.constant(node.inputs[i]) : undefined);
  const scale = constant(1);
  const zero = constant(2);
  const x = types.get(node.inputs[0] ?? '');
  if (scale !== undefined) {
    checkScale(node, scale);
    if (x?.dims !== undefined) checkShape(node, scale, x.dims);
  }
  if (zero === undefined) return;
  if (scale !== undefined && String(zero.dims) !== String(scale.dims))
    throw fault(
      node,
      `has a scale of shape [${scale.dims.join(', ')}] and a zero point of shape [${zero.dims.join(', ')}]`,
    );
  if (node.opType === 'DequantizeLinear' && x !== undefined && zero.dtype !== x.dtype)
    throw fault(node, `has a zero point of ${zero.dtype} for ${x.dtype}`);
  if (zero.dtype === 'int32' && integers(zero).some((value) => value !== 0))
    throw fault(node, 'has a zero point for int32, which must have none');
}

function checkScale(node: GraphNode, scale: Tensor): void {
  const bad = floats(scale).find((value) => !(value >= smallestNormal && value < Number.POSITIVE_INFINITY));
  if (bad !== undefined) throw fault(node, `has a scale of ${bad}`);
}

/** One scale, one per length of an axis, or one per block along it. */
function checkShape(node: GraphNode, scale: Tensor, dims: readonly Dim[]): void {
  const block = node.int('block_size', 0);
  if (block < 0) throw fault(node, `has a block size of ${block}`);
  if (block === 0 && (scale.dims.length === 0 || (scale.dims.length === 1 && scale.dims[0] === 1))) return;
  const axis = axisOf(node.int('axis', 1), dims.length);
  if (axis === undefined) throw fault(node, `has axis ${node.int('axis', 1)} in ${dims.length} dimensions`);
  const length = dims[axis];
  if (scale.dims.length === 1 && block === 0) {
    if (typeof length === 'number' && scale.dims[0] !== length)
      throw fault(node, `has ${scale.dims[0]} scales for ${length} channels`);
    return;
  }
  if (scale.dims.length !== dims.length)
    throw fault(node, `has scales of shape [${scale.dims.join(', ')}] for [${dims.join(', ')}]`);
  if (block === 0) throw fault(node, 'has scales in blocks but a block size of 0');
  // A last block that is not full is legal: the specification asks for ceil(length / block) scales.
  if (typeof length === 'number' && scale.dims[axis] !== Math.ceil(length / block))
    throw fault(node, `has ${scale.dims[axis]} scales along axis ${axis} for ${length} in blocks of ${block}`);
}

function checkNBits(node: GraphNode): void {
  const [bits, block] = [node.int('bits', 4), node.int('block_size', 0)];
  if (![2, 4, 8].includes(bits)) throw fault(node, `has ${bits} bits`);
  if (block < 16 || !Number.isInteger(Math.log2(block))) throw fault(node, `has a block size of ${block}`);
  const scale = node.inputs[2] ? node.graph.constant(node.inputs[2]) : undefined;
  if (scale === undefined) return;
  checkFinite(node, scale);
  const count = node.int('N', 0) * Math.ceil(node.int('K', 0) / block);
  if (scale.dims.reduce((all, dim) => all * dim, 1) !== count)
    throw fault(node, `has scales of shape [${scale.dims.join(', ')}] where ${count} are needed`);
}

/** Its kernels take scales of either sign and of zero. */
function checkFinite(node: GraphNode, scale: Tensor): void {
  const bad = floats(scale).find((value) => !Number.isFinite(value));
  if (bad !== undefined) throw fault(node, `has a scale of ${bad}`);
}

function fault(node: GraphNode, what: string): OnnxError {
  return new OnnxError('onnx/quant', `${describe(node)} ${what}`, { where: describe(node) });
}
