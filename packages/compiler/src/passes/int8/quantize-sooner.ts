import { floats, type Graph, type Node } from '@flotilla/onnx';
import { floatConstant, soleReader } from '../edit.ts';

/**
 * Quantizes floats before they are repeated and joined, not after: `Q(Resize(x))` with the nearest neighbour is
 * `Resize(Q(x))`, and `Q(Concat(a, b))` is `Concat(Q(a), Q(b))`, to the bit. There are fewer of them then, and a byte is
 * moved instead of four. A Concat of nothing but integers stays: ONNX Runtime has a kernel that changes their scales.
 */
export function quantizeSooner(graph: Graph): void {
  const waiting = graph.nodes.filter((node) => node.opType === 'QuantizeLinear');
  for (let quantize = waiting.pop(); quantize; quantize = waiting.pop()) {
    const mover = graph.producer(quantize.inputs[0] ?? '');
    if (!mover || soleReader(graph, mover.outputs[0] ?? '') !== quantize || !isExact(quantize)) continue;
    const values = movedBy(mover);
    if (values.length > 0) waiting.push(...moveBefore(mover, quantize, values));
  }
}

/** Which inputs of a node are moved as they are; none where it does more than that. */
function movedBy(node: Node): readonly number[] {
  if (node.domain !== '') return [];
  if (node.opType === 'Concat') {
    const integers = node.inputs.every((name) => node.graph.producer(name)?.opType === 'DequantizeLinear');
    return integers || node.inputs.some((name) => node.graph.constant(name)) ? [] : [...node.inputs.keys()];
  }
  return node.opType === 'Resize' && isNearest(node) && !shrinks(node) ? [0] : [];
}

/** Linear and cubic interpolation of integers is slower than of floats, and rounds. */
const isNearest = (node: Node) =>
  node.string('mode', 'nearest') === 'nearest' &&
  node.string('coordinate_transformation_mode', 'half_pixel') !== 'tf_crop_and_resize';

/** What would be left out need not be quantized. Sizes instead of scales are taken to enlarge. */
function shrinks(node: Node): boolean {
  const scales = floatConstant(node, 2);
  return scales !== undefined && floats(scales).some((scale) => scale < 1);
}

/** One scale for the whole value. */
const isExact = ({ graph, inputs }: Node) => graph.constant(inputs[1] ?? '')?.dims.length === 0;

/** @returns the nodes that quantize now */
function moveBefore(mover: Node, quantize: Node, indices: readonly number[]): readonly Node[] {
  const { graph } = mover;
  const [, scale = '', zero = ''] = quantize.inputs;
  const made = new Map<string, Node>();
  for (const index of indices) {
    const value = mover.inputs[index] ?? '';
    const known = made.get(value);
    const q = known?.outputs[0] ?? graph.uniqueName(`${value}_q`);
    mover.setInput(index, q);
    if (known) continue;
    const added = { opType: 'QuantizeLinear', inputs: [value, scale, zero], outputs: [q] };
    made.set(value, graph.addNode(added, { before: mover }));
  }
  const [output = ''] = quantize.outputs;
  graph.removeNode(quantize);
  mover.setOutput(0, output);
  return [...made.values()];
}
