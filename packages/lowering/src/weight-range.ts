import type { Graph, Node } from '@flotilla/onnx';
import { pairPeaks } from '@flotilla/quant';
import { values } from './quantized-constant.ts';

/**
 * True if the products of some integer kernel may overflow where x86 without VNNI adds them in pairs, in 16 bits: two
 * neighbouring int8 weights of a row sum to more than 128. A full range alone does not: our compiler's weights seldom
 * peak side by side, and are scaled so that such pairs fit.
 */
export function hasOverflowingPairs(graph: Graph): boolean {
  for (const node of graph.walk()) {
    const weight = weightOf(node);
    if (weight?.dtype !== 'int8' || weight.dims.length < 2) continue;
    const [rows = 0, columns = 0, ...kernel] = weight.dims;
    // The kernel for depthwise convolution adds in 32 bits.
    if (node.opType === 'Conv' && columns === 1 && node.int('group', 1) === rows) continue;
    const first = node.opType === 'Conv' || (node.opType === 'Gemm' && node.int('transB', 0) !== 0);
    const layout = first ? { kernel: kernel.reduce((product, dim) => product * dim, 1) } : { channelsLast: true };
    const channels = first ? rows : (weight.dims.at(-1) ?? columns);
    if (pairPeaks(values(weight), channels, layout).some((peak) => peak > 128)) return true;
  }
  return false;
}

function weightOf(node: Node) {
  const name = node.inputs[1] ?? '';
  if (node.opType === 'MatMulInteger' || node.opType === 'DynamicQuantizeMatMul') return node.graph.constant(name);
  if (!['Conv', 'Gemm', 'MatMul'].includes(node.opType)) return undefined;
  const reading = node.graph.producer(name);
  return reading?.opType === 'DequantizeLinear' ? node.graph.constant(reading.inputs[0] ?? '') : undefined;
}
