import type { Attribute, Graph, NewAttribute, Node } from '@flotilla/onnx';
import { soleReader } from '../edit.ts';
import { type LinearNode, linearNode } from '../linear.ts';

/** A quantized layer and the float one it came from. */
export interface QuantizedLayer {
  /** In the quantized graph. */
  readonly node: Node;
  /** The same in the float graph. */
  readonly original: LinearNode;
  /** MatMul: the sum behind it, and which of its inputs is the constant. */
  readonly sum: { readonly node: Node; readonly index: 0 | 1 } | undefined;
}

/** Static int8 layers, matched to the float graph by the name of what they give. */
export function quantizedLayers(graph: Graph, floatGraph: Graph): QuantizedLayer[] {
  const layers: QuantizedLayer[] = [];
  for (const node of graph.nodes) {
    if (!['Conv', 'Gemm', 'MatMul'].includes(node.opType)) continue;
    if (!isReading(graph, node.inputs[0]) || !isReading(graph, node.inputs[1])) continue;
    // Without a bias in integers it only stores its weights so.
    if (node.opType !== 'MatMul' && !isReading(graph, node.inputs[2])) continue;
    const producer = floatGraph.producer(node.outputs[0] ?? '');
    const original = producer && linearNode(producer);
    // A node whose output took another name (it is the graph's own) is left as it is.
    if (original?.node.opType !== node.opType) continue;
    const sum = node.opType === 'MatMul' ? sumBehind(graph, node, original.outputChannels) : undefined;
    layers.push({ node, original, sum });
  }
  return layers;
}

function isReading(graph: Graph, value: string | undefined): boolean {
  return graph.producer(value ?? '')?.opType === 'DequantizeLinear';
}

function sumBehind(graph: Graph, node: Node, channels: number): QuantizedLayer['sum'] {
  const reader = soleReader(graph, node.outputs[0] ?? '');
  if (reader?.opType !== 'Add') return undefined;
  for (const index of [1, 0] as const) {
    const constant = graph.constant(reader.inputs[index] ?? '');
    if (constant?.dtype === 'float32' && constant.dims.at(-1) === channels && constant.byteLength === 4 * channels)
      return { node: reader, index };
  }
  return undefined;
}

/** The attributes of a linear node, to give another node. */
export function newAttributes(attributes: ReadonlyMap<string, Attribute>): { [name: string]: NewAttribute } {
  const made: { [name: string]: NewAttribute } = {};
  for (const [name, { kind, value }] of attributes) {
    if (kind === 'int') made[name] = { int: value };
    else if (kind === 'ints') made[name] = { ints: value };
    else if (kind === 'string') made[name] = { string: value };
    else if (kind === 'float') made[name] = { float: value };
  }
  return made;
}
