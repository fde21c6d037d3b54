import { floats, type Graph, integers, type Node } from '@flotilla/onnx';

/** The node that makes a value, if it is such an operator of ONNX's own. */
export function madeBy(graph: Graph, value: string, opType: string): Node | undefined {
  const node = graph.producer(value);
  return node?.opType === opType && node.domain === '' ? node : undefined;
}

/** A constant of one element; undefined for any other value. */
export function scalar(graph: Graph, value: string): number | undefined {
  const tensor = graph.constant(value);
  if (!tensor || tensor.dims.some((dim) => dim !== 1)) return undefined;
  if (tensor.dtype === 'float32') return floats(tensor)[0];
  return tensor.dtype === 'int64' || tensor.dtype === 'int32' ? Number(integers(tensor)[0]) : undefined;
}

/** A short list of constant integers. */
export function constantInts(graph: Graph, value: string): readonly number[] | undefined {
  const tensor = graph.constant(value);
  if (!tensor || tensor.dims.length > 1 || (tensor.dims[0] ?? 1) > 8) return undefined;
  return tensor.dtype === 'int64' || tensor.dtype === 'int32' ? [...integers(tensor)].map(Number) : undefined;
}

/** The operand that is not `value`, where a commutative node reads both. */
export function otherInput(node: Node, value: string): string | undefined {
  const [a = '', b = ''] = node.inputs;
  if (a === value) return b;
  return b === value ? a : undefined;
}

/** Through multiplications and divisions by constants of one element; what they amount to in all. */
export function unscaled(graph: Graph, value: string): { readonly value: string; readonly scale: number } {
  const node = graph.producer(value);
  if (node?.domain !== '' || (node.opType !== 'Mul' && node.opType !== 'Div')) return { value, scale: 1 };
  const [a = '', b = ''] = node.inputs;
  const [left, right] = [scalar(graph, a), scalar(graph, b)];
  if (right !== undefined) {
    const inner = unscaled(graph, a);
    return { value: inner.value, scale: node.opType === 'Mul' ? inner.scale * right : inner.scale / right };
  }
  if (left === undefined || node.opType === 'Div') return { value, scale: 1 };
  const inner = unscaled(graph, b);
  return { value: inner.value, scale: inner.scale * left };
}

/** True for a `Transpose` by that permutation. */
export function transposes(node: Node | undefined, perm: readonly number[]): node is Node {
  return node?.opType === 'Transpose' && node.domain === '' && node.ints('perm', []).join() === perm.join();
}

/** The axes of Unsqueeze or of a reduction, which stood in an attribute before opset 13 (18). */
export function axesOf(node: Node): readonly number[] | undefined {
  return node.inputs[1] ? constantInts(node.graph, node.inputs[1]) : node.ints('axes', []);
}
