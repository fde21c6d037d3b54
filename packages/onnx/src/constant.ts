import type { GraphBody } from './graph.ts';
import type { GraphNode } from './node.ts';
import { MemoryTensor } from './tensor.ts';
import { tensorFromFloats, tensorFromInts } from './new-tensor.ts';
import type { Tensor } from './types.ts';

/** The tensor behind a value, through `Identity` and outwards from a body; undefined if it can vary, or is sparse or strings made by a node. */
export function constantOf(graph: GraphBody, value: string): Tensor | undefined {
  let scope: GraphBody | undefined = graph;
  let name = value;
  while (scope !== undefined) {
    const tensor: Tensor | undefined = scope.initializers.get(name);
    // Before IR version 4 every initializer had to be an input too; ONNX Runtime takes those for constant.
    if (tensor !== undefined) return scope.isInput(name) && scope.model.irVersion >= 4 ? undefined : tensor;
    const node: GraphNode | undefined = scope.producer(name);
    if (node?.opType === 'Identity' && node.domain === '') name = node.inputs[0] ?? '';
    else if (node !== undefined) return isConstant(node) ? constantNode(node) : undefined;
    else if (scope.defines(name)) return undefined;
    else scope = scope.owner?.graph;
  }
  return undefined;
}

function isConstant(node: GraphNode): boolean {
  return node.opType === 'Constant' && node.domain === '';
}

/** @see Constant-21: exactly one of these attributes is there */
function constantNode(node: GraphNode): Tensor | undefined {
  const [output = ''] = node.outputs;
  for (const [name, attribute] of node.attributes) {
    if (name === 'value' && attribute.kind === 'tensor') return attribute.value;
    if (name === 'value_float' && attribute.kind === 'float')
      return new MemoryTensor(output, tensorFromFloats([], [attribute.value]));
    if (name === 'value_floats' && attribute.kind === 'floats')
      return new MemoryTensor(output, tensorFromFloats([attribute.value.length], attribute.value));
    if (name === 'value_int' && attribute.kind === 'int')
      return new MemoryTensor(output, tensorFromInts('int64', [], [attribute.value]));
    if (name === 'value_ints' && attribute.kind === 'ints')
      return new MemoryTensor(output, tensorFromInts('int64', [attribute.value.length], attribute.value));
  }
  return undefined;
}
