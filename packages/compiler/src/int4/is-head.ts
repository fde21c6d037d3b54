import type { Graph, Node } from '@flotilla/onnx';

/** What may stand between the last layer and the graph's output. */
const PASSING: ReadonlySet<string> = new Set([
  'Add',
  'Cast',
  'Flatten',
  'Identity',
  'LogSoftmax',
  'Reshape',
  'Sigmoid',
  'Slice',
  'Softmax',
  'Squeeze',
  'Transpose',
  'Unsqueeze',
]);

/** Whether the node is a last layer: nothing but biases, reshapes and a squashing function between it and an output. */
export function isHead(graph: Graph, node: Node): boolean {
  let value = node.outputs[0] ?? '';
  for (let steps = 0; steps < 8; steps++) {
    if (graph.isOutput(value)) return true;
    const [reader, ...others] = graph.consumers(value).filter(({ opType }) => opType !== 'Shape');
    if (!reader || others.length > 0 || reader.graph !== graph || !PASSING.has(reader.opType)) return false;
    // A sum with another computed value is a residual, not a bias.
    if (reader.opType === 'Add' && !reader.inputs.some((input) => graph.constant(input))) return false;
    value = reader.outputs[0] ?? '';
  }
  return false;
}
