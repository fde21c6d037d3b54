import type { Graph, Node } from '@flotilla/onnx';
import { values } from './quantized-constant.ts';

/** True if some int8 weight that an integer kernel multiplies by is beyond ±64: two products no longer fit 16 bits. */
export function hasFullRangeWeights(graph: Graph): boolean {
  for (const node of graph.walk()) {
    const name = weightOf(node);
    const tensor = name === undefined ? undefined : node.graph.constant(name);
    if (tensor?.dtype !== 'int8' || tensor.dims.length < 2) continue;
    if (values(tensor).some((q) => q > 64 || q < -64)) return true;
  }
  return false;
}

function weightOf(node: Node): string | undefined {
  if (node.opType === 'DequantizeLinear') return node.inputs[0];
  return ['MatMulInteger', 'DynamicQuantizeMatMul'].includes(node.opType) ? node.inputs[1] : undefined;
}
