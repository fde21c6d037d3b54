import { integers, type Node, type Tensor, tensorFromInts } from '@flotilla/onnx';
import { setConstant } from '../edit.ts';

const unary = new Set(
  ['Relu', 'LeakyRelu', 'Sigmoid', 'Tanh', 'HardSigmoid', 'HardSwish', 'Elu', 'Selu', 'Softplus', 'Gelu', 'Erf'].concat(
    ['Abs', 'Neg', 'Sqrt', 'Exp', 'Log', 'Floor', 'Ceil', 'Round', 'Reciprocal', 'Clip', 'Cast', 'Identity'],
  ),
);
const multiary = new Set(['Add', 'Sub', 'Mul', 'Div', 'Max', 'Min', 'Pow', 'PRelu', 'Sum', 'Mean']);
const reductions = new Set(['ReduceMean', 'ReduceMax', 'ReduceMin', 'ReduceSum']);

/** Data inputs of a node that computes the same whatever the order of axes, once told of it; undefined for any other. */
export function dataInputs(node: Node, rank: number): readonly string[] | undefined {
  if (node.domain !== '' || node.outputs.length !== 1) return undefined;
  const [first = ''] = node.inputs;
  if (unary.has(node.opType)) return [first];
  if (node.opType === 'Concat') return node.inputs;
  if (reductions.has(node.opType)) return node.int('keepdims', 1) === 1 && axesOf(node) ? [first] : undefined;
  if (!multiary.has(node.opType)) return undefined;
  const data = node.inputs.filter((name) => !node.graph.constant(name));
  const constants = node.inputs.map((name) => node.graph.constant(name)).filter((tensor) => tensor !== undefined);
  return constants.every((tensor) => isPerAxis(tensor, rank)) ? data : undefined;
}

function axesOf(node: Node): readonly number[] | undefined {
  const tensor = node.graph.constant(node.inputs[1] ?? '');
  return tensor && tensor.dtype === 'int64' ? integers(tensor) : undefined;
}

/** One number, or one for each index of one axis: another order of axes is another shape, not another order of bytes. */
function isPerAxis({ dims }: Tensor, rank: number): boolean {
  return dims.length <= rank && dims.filter((dim) => dim !== 1).length <= 1;
}

/** Has a node that read `transpose(u, perm)` read `u`: its constants and axes follow. */
export function turn(node: Node, perm: readonly number[]): void {
  const rank = perm.length;
  const at = (axis: number): number => perm[axis < 0 ? axis + rank : axis] ?? 0;
  if (node.opType === 'Concat') node.setAttribute('axis', { int: at(node.int('axis', 0)) });
  if (reductions.has(node.opType)) {
    const axes = axesOf(node) ?? [];
    setConstant(node, 1, tensorFromInts('int64', [axes.length], axes.map(at)), 'axes');
  }
  if (!multiary.has(node.opType)) return;
  for (const [index, name] of node.inputs.entries()) {
    const tensor = node.graph.constant(name);
    if (!tensor || tensor.dims.every((dim) => dim === 1)) continue;
    const dims = new Array<number>(rank).fill(1);
    for (const [i, dim] of tensor.dims.entries()) dims[at(rank - tensor.dims.length + i)] = dim;
    setConstant(node, index, { dtype: tensor.dtype, dims, bytes: tensor.bytes() });
  }
}
