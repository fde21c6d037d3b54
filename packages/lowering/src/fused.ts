import type { Graph, Node } from '@flotilla/onnx';
import type { Choice } from './lower.ts';

/** What ONNX Runtime makes of an operator between DequantizeLinear and QuantizeLinear. */
const INTEGER_KERNELS: ReadonlyMap<string, string> = new Map([
  ['Conv', 'QLinearConv'],
  ['MatMul', 'QLinearMatMul'],
  ['Gemm', 'QGemm'],
]);

/**
 * True where the reader has another input that is dequantized at run time: the pair is ONNX Runtime's to fuse. Not so for
 * a convolution whose result is not quantized at once: that runs in float.
 */
export function isQuantizedUnit(reader: Node, weight: Node): boolean {
  if (reader.opType === 'Conv' && !isQuantizedNext(reader)) return false;
  return reader.inputs.some((name) => {
    const producer = name === '' ? undefined : reader.graph.producer(name);
    return producer !== weight && producer !== undefined && dequantizesAtRunTime(producer);
  });
}

/** Relu and Clip become part of the rounding. */
function isQuantizedNext({ graph, outputs: [output = ''] }: Node): boolean {
  const [reader, ...others] = graph.consumers(output);
  if (!reader || graph.isOutput(output)) return false;
  if (others.length === 0 && ['Relu', 'Clip'].includes(reader.opType)) return isQuantizedNext(reader);
  return [reader, ...others].every(({ opType }) => opType === 'QuantizeLinear');
}

function dequantizesAtRunTime(node: Node): boolean {
  return node.opType === 'DequantizeLinear' && node.domain === '' && !node.graph.constant(node.inputs[0] ?? '');
}

/** The integer kernels that ONNX Runtime's own fusion gives; nothing is changed for them. */
export function describeFused(graph: Graph): Choice[] {
  const choices: Choice[] = [];
  for (const node of graph.walk()) {
    if (node.domain !== '') continue;
    const kernel = node.opType === 'MatMulInteger' ? 'DynamicQuantizeMatMul' : integerKernel(node);
    if (kernel === undefined) continue;
    const reason = 'int8: ONNX Runtime fuses the quantize and dequantize nodes around it';
    choices.push({ node: node.name, op: node.opType, kernel, reason });
  }
  return choices;
}

function integerKernel(node: Node): string | undefined {
  const kernel = INTEGER_KERNELS.get(node.opType);
  const producers = node.inputs.slice(0, 2).map((name) => node.graph.producer(name));
  if (!kernel || !producers.every((producer) => producer?.opType === 'DequantizeLinear')) return undefined;
  if (!producers.some((producer) => producer && dequantizesAtRunTime(producer))) return undefined;
  const readers = node.graph.consumers(node.outputs[0] ?? '');
  const quantizedAfter = readers.length === 1 && readers[0]?.opType === 'QuantizeLinear';
  if (quantizedAfter) return kernel;
  if (node.opType === 'MatMul') return 'MatMulIntegerToFloat';
  return node.opType === 'Gemm' ? kernel : undefined; // a Conv without a Q behind it does not fuse
}
