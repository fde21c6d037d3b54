import type { BoardClass } from '@flotilla/boards';
import type { Graph, Node } from '@flotilla/onnx';

/** A node that would run on a path many times slower than the one it was quantized for. */
export interface Cliff {
  readonly node: string;
  readonly op: string;
  readonly reason: string;
  readonly mend: string;
}

/** Block lengths that MatMulNBits has fast kernels for. */
const fastBlocks: readonly number[] = [16, 32, 64, 128, 256];

/**
 * Nodes of a lowered graph that ONNX Runtime runs on a generic path on such a board, by rule: figures are in
 * `lowering`'s README and in kernels measured there.
 */
export function findCliffs(graph: Graph, boardClass: BoardClass): readonly Cliff[] {
  const cliffs: Cliff[] = [];
  for (const node of graph.walk()) {
    const found = cliffOf(node, boardClass);
    if (found) cliffs.push({ node: node.name || (node.outputs[0] ?? ''), op: node.opType, ...found });
  }
  return cliffs;
}

type Found = Pick<Cliff, 'reason' | 'mend'>;

function cliffOf(node: Node, boardClass: BoardClass): Found | undefined {
  if (node.domain === 'com.microsoft') {
    if (node.opType === 'MatMulNBits') return nBitsCliff(node, boardClass);
    if (node.opType === 'MatMulBnb4')
      return { reason: 'it expands the whole matrix at every run', mend: 'store the weights as int4 in blocks' };
    return undefined;
  }
  if (node.domain !== '' || node.opType !== 'DequantizeLinear') return undefined;
  return node.graph.constant(node.inputs[0] ?? '') ? expandedCliff(node) : undefined;
}

function nBitsCliff(node: Node, boardClass: BoardClass): Found | undefined {
  const [, weight = '', , zero = '', order = ''] = node.inputs;
  const [bits, block] = [node.int('bits', 4), node.int('block_size', 0)];
  if (order !== '') return { reason: 'its columns are reordered (g_idx)', mend: 'undo act-order when quantizing' };
  if (!node.graph.constant(weight)) return { reason: 'its weights are no constant', mend: 'make them an initializer' };
  const zeroType = zero === '' ? undefined : node.graph.constant(zero)?.dtype;
  if (zero !== '' && zeroType !== 'uint8')
    return { reason: `its zero points are ${zeroType ?? 'no constant'}`, mend: 'whole zero points, as uint8' };
  if (!fastBlocks.includes(block))
    return { reason: `blocks of ${block} have no fast kernel`, mend: `blocks of ${fastBlocks.join(', ')}` };
  const level = node.int('accuracy_level', 0);
  // Level 1 is asked for, node by node; 4 bits lose a factor of three to four by it, 8 bits a hundred.
  if (level !== 4 && (level !== 1 || bits !== 4)) {
    const states = level === 0 ? 'it states no accuracy level, and' : `at accuracy level ${level} it`;
    return { reason: `${states} multiplies floats`, mend: 'accuracy_level 4' };
  }
  if (boardClass === 'arm64')
    return {
      reason: `${bits} bits without a dot product take 7 times the instructions of int8, and more`,
      mend: 'DynamicQuantizeMatMul for such boards',
    };
  return undefined;
}

/** Fused products read such a weight as integers; any other reader has it expanded anew at every run. */
function expandedCliff(node: Node): Found | undefined {
  const readers = node.graph.consumers(node.outputs[0] ?? '');
  const reader = readers.find((one) => !one.inputs.some((name) => isRead(one, name)));
  if (!reader) return undefined;
  const reason = `its constant is expanded at every run, for ${reader.opType} ${reader.name}`;
  return { reason, mend: 'lowering expands such weights once; report the model' };
}

/** An activation that is dequantized at run time: the product is an integer group. */
function isRead(node: Node, name: string): boolean {
  const producer = name === '' ? undefined : node.graph.producer(name);
  return producer?.opType === 'DequantizeLinear' && !node.graph.constant(producer.inputs[0] ?? '');
}
