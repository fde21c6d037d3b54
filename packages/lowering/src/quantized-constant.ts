import { floats, type Node, type Tensor } from '@flotilla/onnx';
import { unpackNibbles, unpackSignedNibbles } from '@flotilla/quant';
import { LoweringError } from './errors.ts';

/** A constant behind a `DequantizeLinear`: `w[r, c, i] = (q − zeroPoint) · scale`, rows × cols × inner around its axis. */
export interface QuantizedConstant {
  readonly node: Node;
  readonly tensor: Tensor;
  readonly bits: 4 | 8 | 32;
  readonly axis: number;
  readonly rows: number;
  readonly cols: number;
  readonly inner: number;
  /** Length along the axis that shares a scale; 0 for one scale per index of the axis, or for the whole tensor. */
  readonly block: number;
  readonly scale: Float32Array;
  /** In the shape of `scale`; undefined stands for zeros. */
  readonly zeroPoint: ArrayLike<number> | undefined;
}

/** What a DequantizeLinear reads, if all of it is constant and of a kind that lowering knows. */
export function quantizedConstant(node: Node): QuantizedConstant | undefined {
  const [x, scale, zero] = node.inputs.map((name) => (name === '' ? undefined : node.graph.constant(name)));
  if (node.opType !== 'DequantizeLinear' || node.domain !== '' || !x || scale?.dtype !== 'float32') return undefined;
  if (node.inputs[2] && !zero) return undefined;
  const bits = bitsOf(x);
  if (!bits) return undefined;
  const rank = x.dims.length;
  const given = node.int('axis', 1);
  const axis = given < 0 ? given + rank : given;
  const product = (dims: readonly number[]) => dims.reduce((all, dim) => all * dim, 1);
  const perTensor = product(scale.dims) === 1 && scale.dims.length <= 1;
  if (!perTensor && (axis < 0 || axis >= rank)) throw bad(node, `axis ${given} of rank ${rank}`);
  const constant: QuantizedConstant = {
    node,
    tensor: x,
    bits,
    axis,
    rows: perTensor ? 1 : product(x.dims.slice(0, axis)),
    cols: perTensor ? product(x.dims) : (x.dims[axis] ?? 1),
    inner: perTensor ? 1 : product(x.dims.slice(axis + 1)),
    block: node.int('block_size', 0),
    scale: floats(scale),
    zeroPoint: zero && values(zero),
  };
  checkSizes(constant, perTensor);
  return constant;
}

function checkSizes(constant: QuantizedConstant, perTensor: boolean): void {
  const { node, rows, cols, inner, block, scale, zeroPoint } = constant;
  const perBlock = rows * Math.ceil(cols / block) * inner;
  const expected = perTensor ? 1 : block > 0 ? perBlock : cols;
  if (scale.length !== expected) throw bad(node, `${scale.length} scales, ${expected} expected`);
  if (zeroPoint && zeroPoint.length !== expected)
    throw bad(node, `${zeroPoint.length} zero points for ${expected} scales`);
}

function bitsOf({ dtype }: Tensor): 4 | 8 | 32 | undefined {
  if (dtype === 'int4' || dtype === 'uint4') return 4;
  if (dtype === 'int8' || dtype === 'uint8') return 8;
  return dtype === 'int32' ? 32 : undefined;
}

/** The integers, one to an element. */
export function values(tensor: Tensor): Int8Array | Uint8Array | Int32Array {
  const bytes = tensor.bytes();
  const count = tensor.dims.reduce((all, dim) => all * dim, 1);
  if (tensor.dtype === 'uint4') return unpackNibbles(bytes, count);
  if (tensor.dtype === 'int4') return unpackSignedNibbles(bytes, count);
  if (tensor.dtype === 'uint8') return bytes;
  if (tensor.dtype === 'int8') return new Int8Array(bytes.buffer, bytes.byteOffset, bytes.length);
  const copy = new Uint8Array(bytes);
  return new Int32Array(copy.buffer);
}

/** In float32, as DequantizeLinear-21 computes it; in the tensor's own layout. */
export function dequantize(constant: QuantizedConstant): Float32Array {
  const { tensor, scale, zeroPoint } = constant;
  const q = values(tensor);
  const w = new Float32Array(q.length);
  forEachElement(constant, (at, s) => {
    w[at] = ((q[at] ?? 0) - (zeroPoint?.[s] ?? 0)) * (scale[s] ?? 0);
  });
  return w;
}

/** Visits every element with the index of its scale. */
export function forEachElement(
  { rows, cols, inner, block, scale }: QuantizedConstant,
  visit: (at: number, s: number) => void,
): void {
  const blocks = Math.ceil(cols / block);
  for (let r = 0, at = 0; r < rows; r++)
    for (let c = 0; c < cols; c++)
      for (let i = 0; i < inner; i++, at++)
        visit(at, scale.length === 1 ? 0 : block > 0 ? (r * blocks + Math.floor(c / block)) * inner + i : c);
}

function bad(node: Node, problem: string): LoweringError {
  return new LoweringError('lowering/shape', `DequantizeLinear ${JSON.stringify(node.name)}: ${problem}`, {
    where: node.name,
  });
}
