import type { Graph } from '@flotilla/onnx';

/**
 * Gives each integer product weights of its own. ONNX Runtime 1.30.0 rewrites them where `session.x64quantprecision` asks
 * for exact sums, and refuses to load a model in which two products read one tensor.
 */
export function unshareWeights(graph: Graph): void {
  const taken = new Set<string>();
  for (const node of graph.walk()) {
    if (node.opType !== 'DynamicQuantizeMatMul' && node.opType !== 'MatMulInteger') continue;
    const [, value = ''] = node.inputs;
    const tensor = node.graph.constant(value);
    if (tensor === undefined || !taken.has(value)) {
      taken.add(value);
      continue;
    }
    const own = node.graph.uniqueName(`${value}_own`);
    node.graph.addInitializer(own, { dtype: tensor.dtype, dims: tensor.dims, bytes: tensor.bytes() });
    node.setInput(1, own);
  }
}
