import { FLOAT_ACTIVATIONS } from '@flotilla/lowering';
import type { Graph, Node } from '@flotilla/onnx';
import { nodeKey } from '../node-key.ts';

/**
 * Writes into the model's metadata which of these nodes multiply by weights of 4 bits: every board is to give them their
 * activations in floats, where else it would round those to 8 bits.
 */
export function keepActivationsFloat(graph: Graph, nodes: readonly Node[]): void {
  const named = JSON.parse(graph.model.metadata.get(FLOAT_ACTIVATIONS) ?? '[]') as readonly string[];
  const more = nodes.filter(multipliesFourBits).map((node) => nodeKey(graph, node));
  if (more.length > 0) graph.model.setMetadata(FLOAT_ACTIVATIONS, JSON.stringify([...new Set([...named, ...more])]));
}

function multipliesFourBits({ graph, opType, inputs }: Node): boolean {
  const weight = opType === 'MatMul' || opType === 'Gemm' ? graph.producer(inputs[1] ?? '') : undefined;
  const stored = weight?.opType === 'DequantizeLinear' ? graph.constant(weight.inputs[0] ?? '') : undefined;
  return stored?.dtype.endsWith('int4') ?? false;
}
