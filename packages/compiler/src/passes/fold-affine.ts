import {
  inferTypes,
  floats,
  type Graph,
  type Node,
  type Tensor,
  tensorFromFloats,
  type ValueType,
} from '@flotilla/onnx';
import { z } from 'zod';
import { definePass } from '../pass.ts';
import { handOn, setConstant, soleReader, withConstant } from './edit.ts';
import { type LinearNode, linearNode, scaleInput, scaleOutput } from './linear.ts';

/**
 * Folds `· c`, `+ c` and `− c` (a constant, or one per channel) into the linear node before; where there is none, into
 * every one that follows. A product moves across a following sum on its way (`a·x + b = a·(x + b/a)`). A sum does not
 * go forward into a padded convolution, which pads after it; a sum does not go into MatMul, which has no bias. In a model
 * too large to be run, large weights stay as they are: folding a gain would write each of them anew to spare one product.
 */
export const foldAffine = definePass({
  name: 'fold-affine',
  stage: 'rewrite',
  options: z.strictObject({}),
  run(graph, { unrun = false }) {
    const mostBytes = unrun ? UNRUN_BYTES : Number.POSITIVE_INFINITY;
    // Each fold can uncover another; every one removes a node or moves a product down, so this ends.
    for (let changed = true; changed; ) {
      const types = inferTypes(graph);
      changed = false;
      for (const node of Array.from(graph.walk())) {
        if (!['Mul', 'Add', 'Sub'].includes(node.opType) || node.domain !== '') continue;
        if (node.graph.producer(node.outputs[0] ?? '') !== node) continue;
        changed = foldBack(node, types, mostBytes) || foldForward(node, types, mostBytes) || moveDown(node) || changed;
      }
    }
    return graph;
  },
});

/** Of a weight that is still folded into where the model is not run. */
const UNRUN_BYTES = 1e6;

type Types = ReadonlyMap<string, ValueType>;

interface Affine {
  readonly other: string;
  readonly scale: number | Float32Array;
  readonly shift: number | Float32Array;
}

/** `scale · other + shift`, each one number or one per channel (axis 1 of an image, the last axis of a matrix). */
function affineOf(node: Node, types: Types, channelAxis: 'first' | 'last'): Affine | undefined {
  const parts = withConstant(node);
  if (!parts || (node.opType === 'Sub' && parts.constantIndex === 0)) return undefined;
  const rank = types.get(parts.other)?.dims?.length;
  const factor = perChannel(parts.constant, rank, channelAxis);
  if (factor === undefined) return undefined;
  if (node.opType === 'Mul') return { other: parts.other, scale: factor, shift: 0 };
  const sign = node.opType === 'Sub' ? -1 : 1;
  return {
    other: parts.other,
    scale: 1,
    shift: typeof factor === 'number' ? sign * factor : factor.map((v) => sign * v),
  };
}

function perChannel(
  tensor: Tensor,
  rank: number | undefined,
  axis: 'first' | 'last',
): number | Float32Array | undefined {
  const single = tensor.dims.every((dim) => dim === 1);
  if (tensor.dims.length > 0 && (rank === undefined || tensor.dims.length > rank)) return undefined;
  if (single) return floats(tensor)[0];
  const fromEnd = tensor.dims.findIndex((dim) => dim !== 1) - tensor.dims.length;
  if (tensor.dims.filter((dim) => dim !== 1).length !== 1 || rank === undefined) return undefined;
  return fromEnd === (axis === 'last' ? -1 : 1 - rank) ? floats(tensor) : undefined;
}

const axisOf = (node: Node) => (node.opType === 'Conv' || node.opType === 'ConvTranspose' ? 'first' : 'last');

function spread(value: number | Float32Array, channels: number): Float32Array | undefined {
  if (typeof value === 'number') return new Float32Array(channels).fill(value);
  return value.length === channels ? value : undefined;
}

function foldBack(node: Node, types: Types, mostBytes: number): boolean {
  const { graph } = node;
  const data = withConstant(node)?.other ?? '';
  const producer = graph.producer(data);
  const linear = producer && linearNode(producer);
  if (!linear || linear.shared || linear.weight.byteLength > mostBytes || soleReader(graph, data) !== node)
    return false;
  const affine = affineOf(node, types, axisOf(linear.node));
  const scale = affine && spread(affine.scale, linear.outputChannels);
  const shift = affine && spread(affine.shift, linear.outputChannels);
  const shifts = affine?.shift !== 0;
  if (!scale || !shift || (linear.node.opType === 'MatMul' && shifts)) return false;
  scaleOutput(linear, scale, shifts ? shift : undefined);
  handOn(node, data);
  return true;
}

function foldForward(node: Node, types: Types, mostBytes: number): boolean {
  const { graph } = node;
  const [output = ''] = node.outputs;
  const readers = graph.consumers(output);
  if (readers.length === 0 || graph.isOutput(output)) return false;
  const plans: { linear: LinearNode; scale: Float32Array; shift: Float32Array | undefined }[] = [];
  for (const reader of readers) {
    const linear = reader.graph === graph && reader.inputs.indexOf(output) === 0 ? linearNode(reader) : undefined;
    const affine = linear && affineOf(node, types, axisOf(reader));
    const scale = affine && spread(affine.scale, linear.inputChannels);
    const shift = affine && spread(affine.shift, linear.inputChannels);
    if (!linear || linear.shared || linear.weight.byteLength > mostBytes || !scale || !shift) return false;
    const shifts = affine.shift !== 0;
    if (shifts && !takesShift(reader)) return false;
    plans.push({ linear, scale, shift: shifts ? shift : undefined });
  }
  for (const { linear, scale, shift } of plans) scaleInput(linear, scale, shift);
  handOn(node, withConstant(node)?.other ?? '');
  return true;
}

function takesShift(reader: Node): boolean {
  if (reader.opType === 'Gemm') return true;
  if (reader.opType !== 'Conv') return false;
  const auto = reader.string('auto_pad', 'NOTSET');
  return auto === 'VALID' || (auto === 'NOTSET' && reader.ints('pads', []).every((pad) => pad === 0));
}

/** `a·x + b` becomes `a·(x + b/a)` where only linear nodes read it: they take the product, the sum stays. */
function moveDown(node: Node): boolean {
  const { graph } = node;
  if (node.opType !== 'Mul') return false;
  const product = withConstant(node);
  const add = soleReader(graph, node.outputs[0] ?? '');
  if (!product || add?.opType !== 'Add' || add.domain !== '') return false;
  const sum = withConstant(add);
  const [a, b] = [product.constant, sum?.constant];
  if (!b || a.dims.some((dim) => dim !== 1) || b.dims.some((dim) => dim !== 1)) return false;
  const [factor = 0, term = 0] = [floats(a)[0], floats(b)[0]];
  const [output = ''] = add.outputs;
  const readers = graph.consumers(output);
  const willFold = readers.every((r) => r.graph === graph && r.inputs.indexOf(output) === 0 && linearNode(r));
  if (readers.length === 0 || graph.isOutput(output) || !willFold || !Number.isFinite(term / factor)) return false;
  // Swapped in place: the first node becomes the sum, the second the product.
  const next = graph.addNode(
    { opType: 'Add', inputs: [product.other, ''], outputs: [graph.uniqueName(`${output}_sum`)] },
    { before: node },
  );
  setConstant(next, 1, tensorFromFloats(b.dims, Float32Array.of(term / factor)), 'shift');
  const last = graph.addNode(
    { opType: 'Mul', inputs: [next.outputs[0] ?? '', ''], outputs: [graph.uniqueName(`${output}_product`)] },
    { before: add },
  );
  setConstant(last, 1, tensorFromFloats(a.dims, Float32Array.of(factor)), 'factor');
  removeBoth(graph, node, add);
  graph.replaceUses(output, last.outputs[0] ?? '');
  return true;
}

function removeBoth(graph: Graph, first: Node, second: Node): void {
  graph.removeNode(second);
  graph.removeNode(first);
}
