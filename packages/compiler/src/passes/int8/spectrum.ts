import type { Node } from '@flotilla/onnx';
import { scalarConstant } from '../edit.ts';

const moves = new Set(['Slice', 'Squeeze', 'Unsqueeze', 'Transpose', 'Reshape', 'Flatten', 'Split', 'Identity']);

/**
 * Why a product needs more than 8 bits, for weights and activations: it makes a spectrum, or reads one. Sines and cosines
 * whose products are squared, and what sums the squares, span as many decades as hearing does; one scale leaves all but
 * the loudest at 0 (log-mel features: 5 dB against 84 with fp16 weights). Undefined for any other node.
 */
export function spectrumReason(node: Node): string | undefined {
  if (isSquared(node)) return 'its products are squared: a spectrum needs more than 8 bits';
  const reads = ['MatMul', 'Gemm', 'Conv'].includes(node.opType) && isPower(node, node.inputs[0] ?? '', 8);
  return reads ? 'it reads a spectrum, which needs more than 8 bits' : undefined;
}

/** All that reads the result, once moved about, squares it. */
function isSquared(node: Node): boolean {
  const readers = node.outputs.flatMap((output) => (output === '' ? [] : node.graph.consumers(output)));
  return (
    readers.length > 0 && readers.every((reader) => isSquare(reader) || (moves.has(reader.opType) && isSquared(reader)))
  );
}

function isSquare(node: Node): boolean {
  if (node.domain !== '') return false;
  return node.opType === 'Pow'
    ? scalarConstant(node, 1) === 2
    : node.opType === 'Mul' && node.inputs[0] === node.inputs[1];
}

/** A square, a sum or a root of squares, moved about or scaled. */
function isPower(reader: Node, value: string, depth: number): boolean {
  const node = reader.graph.producer(value);
  if (!node || depth === 0) return false;
  if (isSquare(node)) return true;
  const sums = ['Add', 'Sum', 'Mul', 'Sqrt', 'ReduceSum'].includes(node.opType);
  if (!sums && !moves.has(node.opType)) return false;
  const data = node.inputs.filter((name) => name !== '' && !node.graph.constant(name));
  return data.length > 0 && data.every((name) => isPower(node, name, depth - 1));
}
