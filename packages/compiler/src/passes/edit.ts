import { floats, type Graph, type NewTensor, type Node, type Tensor } from '@flotilla/onnx';

/** Removes a one-output node and lets its readers read `value` instead. */
export function handOn(node: Node, value: string): void {
  const { graph } = node;
  const [output = ''] = node.outputs;
  graph.removeNode(node);
  graph.replaceUses(output, value);
}

/** The only reader of a value; undefined where there are several, none, or the graph itself hands it out. */
export function soleReader(graph: Graph, value: string): Node | undefined {
  if (graph.isOutput(value)) return undefined;
  const [reader, ...others] = graph.consumers(value);
  // One node that reads it twice counts once in `consumers`.
  if (!reader || others.some((other) => other !== reader) || reader.graph !== graph) return undefined;
  return reader;
}

/** The constant float32 tensor behind an input. */
export function floatConstant(node: Node, index: number): Tensor | undefined {
  const tensor = node.graph.constant(node.inputs[index] ?? '');
  return tensor?.dtype === 'float32' ? tensor : undefined;
}

/** The value of a constant with one element (float32). */
export function scalarConstant(node: Node, index: number): number | undefined {
  const tensor = floatConstant(node, index);
  return tensor && tensor.dims.every((dim) => dim === 1) ? floats(tensor)[0] : undefined;
}

/** Splits a node's two inputs into a constant and the other, whichever way round they come. */
export function withConstant(node: Node): { constant: Tensor; constantIndex: 0 | 1; other: string } | undefined {
  for (const constantIndex of [1, 0] as const) {
    const constant = floatConstant(node, constantIndex);
    if (constant) return { constant, constantIndex, other: node.inputs[1 - constantIndex] ?? '' };
  }
  return undefined;
}

/** Gives a node a new constant at one input. The old one stays for its other readers; without any it goes. */
export function setConstant(node: Node, index: number, tensor: NewTensor, prefix = 'weight'): void {
  const old = node.inputs[index] ?? '';
  const name = node.graph.uniqueName(old === '' ? `${node.name || node.opType}_${prefix}` : old);
  const { graph } = node;
  graph.addInitializer(name, tensor);
  node.setInput(index, name);
  if (graph.initializers.has(old) && graph.consumers(old).length === 0 && !graph.isOutput(old))
    graph.removeInitializer(old);
}
