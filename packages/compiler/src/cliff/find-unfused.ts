import type { Graph, Node } from '@flotilla/onnx';

/** A node that was quantized and runs in float all the same. */
export interface Unfused {
  readonly node: string;
  readonly op: string;
  readonly reason: string;
}

/** Operators that integers were meant for; what merely lies between them (Reshape, Softmax …) is not looked at. */
const products = new Set(['Conv', 'FusedConv', 'ConvTranspose', 'Gemm', 'FusedGemm', 'MatMul', 'FusedMatMul']);

/**
 * Products that ONNX Runtime left between Dequantize and Quantize nodes.
 * @param optimized the graph as its optimizer wrote it
 */
export function findUnfused(optimized: Graph): readonly Unfused[] {
  const found: Unfused[] = [];
  for (const node of optimized.walk()) {
    if (!products.has(node.opType) || !readsIntegers(node)) continue;
    found.push({ node: node.name || (node.outputs[0] ?? ''), op: node.opType, reason: reasonFor(node) });
  }
  return found;
}

const madeBy = (node: Node, name: string): Node | undefined => (name === '' ? undefined : node.graph.producer(name));

/** With weights that are float by now a product was left in float on purpose, whatever it reads. */
function readsIntegers(node: Node): boolean {
  return madeBy(node, node.inputs[1] ?? '')?.opType === 'DequantizeLinear';
}

function reasonFor(node: Node): string {
  const { graph } = node;
  const [x = ''] = node.inputs;
  if (madeBy(node, x)?.opType !== 'DequantizeLinear')
    return 'its activations are float: the weights are expanded at every run';
  const [output = ''] = node.outputs;
  const quantized = graph.consumers(output).every(({ opType }) => opType === 'QuantizeLinear');
  if (node.opType.endsWith('Conv') && (graph.isOutput(output) || !quantized))
    return 'a convolution whose result is not quantized has no integer kernel';
  return 'ONNX Runtime has no integer kernel for this form of it';
}
