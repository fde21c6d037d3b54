import { floats, type Graph, type Model, type NewTensor, type Node, tensorFromFloats } from '@flotilla/onnx';
import { addLowRank, float16ToFloat32, type LayerShape } from '@flotilla/quant';
import { LoweringError } from './errors.ts';
import { dequantize, quantizedConstant } from './quantized-constant.ts';
import { type Requantized, requantize } from './requantize.ts';

/** What changes one layer's weights: `W' = gain ⊙ W + B · A` in its outputs `[begin, end)`; factors in float16. */
export interface LayerChange {
  /** The layer's output in the portable graph. */
  readonly output: string;
  readonly inFeatures: number;
  readonly outFeatures: number;
  readonly begin: number;
  readonly end: number;
  readonly rank: number;
  /** `[rank, inFeatures]`. */
  readonly a: Uint16Array;
  /** `[end − begin, rank]`. */
  readonly b: Uint16Array;
  /** `[end − begin]`; undefined: 1. */
  readonly gain: Uint16Array | undefined;
  /** What would be added to the outputs: no change of weights, and refused. */
  readonly shift: Uint16Array | undefined;
}

/**
 * Merges low-rank changes into a portable graph, in place: each weight is dequantized, changed and rounded to nearest
 * again, without data. The same graph and changes give the same bytes on every machine: the arithmetic is +, −, ×, ÷ and
 * rounding, in one order (`addLowRank`, `quantizeInt4`).
 * @throws {LoweringError} `lowering/rebuild`, naming the layer; {QuantError} for factors that do not fill their shapes
 */
export function rebuildModel({ graph }: Model, changes: readonly LayerChange[]): void {
  const layers = new Map<string, LayerChange[]>();
  for (const change of changes) layers.set(change.output, [...(layers.get(change.output) ?? []), change]);
  for (const [output, own] of layers) rebuildLayer(graph, output, own);
  graph.removeDead();
}

/** Other readers of the weight (a tied embedding) keep the old one: the layer gets constants of its own. */
function rebuildLayer(graph: Graph, output: string, changes: readonly LayerChange[]): void {
  const node = graph.producer(output);
  const input = node && WEIGHT_INPUT.get(node.opType);
  if (!node || input === undefined)
    throw unfit(output, node ? `is made by ${node.opType}, which takes no adapter` : 'is no value of the model');
  const value = node.inputs[input] ?? '';
  const reading = graph.producer(value);
  const quantized = reading && quantizedConstant(reading);
  const tensor = quantized?.tensor ?? graph.constant(value);
  if (!tensor || (!quantized && tensor.dtype !== 'float32'))
    throw unfit(output, 'reads weights that are neither float32 nor integers behind a DequantizeLinear');
  const layer = shapeOf(tensor.dims, input === 0 || node.int('transB', 0) === 0);
  const w = quantized ? dequantize(quantized) : floats(tensor).slice();
  for (const change of changes) {
    checkChange(tensor.dims, layer, change);
    const { begin, end, rank, gain } = change;
    const [a, b] = [float16ToFloat32(change.a), float16ToFloat32(change.b)];
    addLowRank(w, layer, { begin, end, rank, a, b, gain: gain && float16ToFloat32(gain) });
  }
  const made = quantized
    ? addDequantize(quantized.node, value, requantize(quantized, w), node)
    : addConstant(graph, value, tensorFromFloats(tensor.dims, w));
  node.setInput(input, made);
}

const WEIGHT_INPUT: ReadonlyMap<string, number> = new Map([
  ['MatMul', 1],
  ['Gemm', 1],
  ['FusedMatMul', 1],
  ['Gather', 0],
]);

function shapeOf([first = 0, second = 0]: readonly number[], isInOut: boolean): LayerShape {
  return isInOut
    ? { inFeatures: first, outFeatures: second, isInOut }
    : { inFeatures: second, outFeatures: first, isInOut };
}

function checkChange(dims: readonly number[], layer: LayerShape, change: LayerChange): void {
  const { output, inFeatures, outFeatures, begin, end, shift } = change;
  if (shift) throw unfit(output, 'is shifted by the adapter, which is no change of weights');
  const fits = dims.length === 2 && layer.inFeatures === inFeatures && layer.outFeatures === outFeatures;
  if (!fits || end > outFeatures)
    throw unfit(
      output,
      `has weights [${dims.join(', ')}], not outputs ${begin} to ${end} of ${outFeatures} from ${inFeatures}`,
    );
}

function addDequantize({ graph, inputs, attributes }: Node, value: string, made: Requantized, before: Node): string {
  const { q, scale, zeroPoint } = made;
  const tensors = [q, scale, ...(zeroPoint ? [zeroPoint] : [])];
  const names = tensors.map((tensor, i) => addConstant(graph, inputs[i] ?? value, tensor));
  const output = graph.uniqueName(`${value}_rebuilt`);
  const numbers = [...attributes].flatMap(([name, attribute]) =>
    attribute.kind === 'int' ? [[name, { int: attribute.value }] as const] : [],
  );
  const node = { opType: 'DequantizeLinear', inputs: names, outputs: [output] };
  graph.addNode({ ...node, attributes: Object.fromEntries(numbers) }, { before });
  return output;
}

function addConstant(graph: Graph, name: string, tensor: NewTensor): string {
  const made = graph.uniqueName(`${name}_rebuilt`);
  graph.addInitializer(made, tensor);
  return made;
}

function unfit(output: string, what: string): LoweringError {
  return new LoweringError('lowering/rebuild', `${JSON.stringify(output)} ${what}`, { where: output });
}
