import { FLOAT_ACTIVATIONS } from '@flotilla/lowering';
import { elementCount, type Graph, type Node } from '@flotilla/onnx';
import { isNamed, nodeKey } from '../node-key.ts';

/**
 * Writes into the model's metadata which of these nodes multiply by weights of 4 bits: every board is to give them their
 * activations in floats, where else it would round those to 8 bits.
 */
export function keepActivationsFloat(graph: Graph, nodes: readonly Node[]): void {
  const more = nodes.filter((node) => fourBitWeights(node) > 0).map((node) => nodeKey(graph, node));
  if (more.length === 0) return;
  graph.model.setMetadata(FLOAT_ACTIVATIONS, JSON.stringify([...new Set([...named(graph), ...more])]));
}

/** Share of the weights that multiply in 4 bits whose activations are to stay floats. */
export function floatShare(graph: Graph): number {
  const names = named(graph);
  let [all, inFloats] = [0, 0];
  for (const node of graph.walk()) {
    const count = fourBitWeights(node);
    all += count;
    if (isNamed(names, node)) inFloats += count;
  }
  return inFloats / Math.max(1, all);
}

function named(graph: Graph): readonly string[] {
  return JSON.parse(graph.model.metadata.get(FLOAT_ACTIVATIONS) ?? '[]') as readonly string[];
}

function fourBitWeights({ graph, opType, inputs }: Node): number {
  const weight = opType === 'MatMul' || opType === 'Gemm' ? graph.producer(inputs[1] ?? '') : undefined;
  const stored = weight?.opType === 'DequantizeLinear' ? graph.constant(weight.inputs[0] ?? '') : undefined;
  return stored?.dtype.endsWith('int4') ? elementCount(stored) : 0;
}
