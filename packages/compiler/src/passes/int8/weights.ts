import { floats, type Graph, type Node, type Tensor, tensorFromFloats, tensorFromInts } from '@flotilla/onnx';
import {
  biasScale,
  channelPeaks,
  type Int8Rows,
  leastWeightScale,
  pairSafeScale,
  quantizeBias,
  quantizeInt8,
} from '@flotilla/quant';
import { addHalf } from '../convert-fp16.ts';
import type { LinearNode } from '../linear.ts';
import type { Form } from './forms.ts';

/** Puts int8 weights and an int32 bias, behind DequantizeLinear each, in the place of a linear node's float ones. */
export function quantizeWeights(linear: LinearNode, input: Form, { range, perChannel }: WeightChoice): void {
  const { node, weight, outputChannels } = linear;
  const { graph } = node;
  const axis = channelAxis(linear);
  const inner = axis === 0 ? sizePerChannel(linear) : 1;
  const w = floats(weight);
  const bias = node.opType === 'MatMul' ? undefined : biasWithRest(linear, w, input.rest);
  const bits = range === 'reduced' ? 7 : 8;
  const least = larger(bias && leastWeightScale(bias, input.scale), leastForRange(linear, w, range));
  const leastScale = perChannel
    ? least
    : oneForAll(channelPeaks(w, outputChannels, inner), bits === 7 ? 64 : 127, least);
  const rows = quantizeInt8(w, outputChannels, { bits, inner, leastScale });
  const prefix = node.inputs[1] ?? 'weight';

  const q = constant(graph, `${prefix}_q`, { dtype: 'int8', dims: weight.dims, bytes: bytesOf(rows.q) });
  const scale = constant(graph, `${prefix}_scale`, tensorFromFloats([outputChannels], rows.scale));
  const zero = zeroPoints(graph, prefix, outputChannels);
  const read = graph.uniqueName(`${prefix}_dq`);
  graph.addNode(
    {
      opType: 'DequantizeLinear',
      inputs: [q, scale, zero],
      outputs: [read],
      attributes: { axis: { int: axis } },
    },
    { before: node },
  );
  node.setInput(1, read);
  if (bias) addBias(linear, bias, rows, input);
}

export interface WeightChoice {
  readonly range: WeightRange;
  /** False: every channel has the scale that the largest needs. */
  readonly perChannel: boolean;
}

/**
 * `full`: ±127. `pairs`: as full, but no two neighbours overflow 16 bits. `reduced`: ±64, which has the same effect at
 * the price of a bit.
 */
export type WeightRange = 'full' | 'pairs' | 'reduced';

function leastForRange(linear: LinearNode, w: Float32Array, range: WeightRange): Float32Array | undefined {
  const { node, weight, outputChannels } = linear;
  // The kernel for depthwise convolution adds in 32 bits everywhere.
  const depthwise = node.opType === 'Conv' && node.int('group', 1) === outputChannels && weight.dims[1] === 1;
  if (range !== 'pairs' || depthwise) return undefined;
  const kernel = node.opType === 'Conv' ? weight.dims.slice(2).reduce((a, b) => a * b, 1) : 1;
  return pairSafeScale(w, outputChannels, { kernel, channelsLast: channelAxis(linear) === 1 });
}

function oneForAll(peaks: Float32Array, most: number, least: Float32Array | undefined): Float32Array {
  const largest = peaks.reduce((a, b) => Math.max(a, b), 0) / most;
  return peaks.fill((least ?? peaks.slice(0, 0)).reduce((a, b) => Math.max(a, b), largest));
}

function larger(a: Float32Array | undefined, b: Float32Array | undefined): Float32Array | undefined {
  return a && b ? a.map((value, c) => Math.max(value, b[c] ?? 0)) : (a ?? b);
}

function addBias({ node }: LinearNode, bias: Float32Array, rows: Int8Rows, input: Form): void {
  const { graph } = node;
  const prefix = `${node.inputs[1]}_bias`;
  const scales = rows.scale.map((scale) => biasScale(input.scale, scale));
  const q = constant(
    graph,
    `${prefix}_q`,
    tensorFromInts('int32', [bias.length], [...quantizeBias(bias, input.scale, rows.scale)]),
  );
  const scale = constant(graph, `${prefix}_scale`, tensorFromFloats([bias.length], scales));
  const read = graph.uniqueName(`${prefix}_dq`);
  graph.addNode(
    { opType: 'DequantizeLinear', inputs: [q, scale], outputs: [read], attributes: { axis: { int: 0 } } },
    { before: node },
  );
  node.setInput(2, read);
}

/** The bias, plus what the input's rounded zero point left over (exact but for padding). */
function biasWithRest(linear: LinearNode, w: Float32Array, rest: number): Float32Array {
  const bias = linear.bias ? floats(linear.bias).slice() : new Float32Array(linear.outputChannels);
  if (rest !== 0)
    for (let i = 0; i < w.length; i++) {
      const c = linear.outputChannel(i);
      bias[c] = (bias[c] ?? 0) + rest * (w[i] ?? 0);
    }
  return bias;
}

/** Where the output channels lie in the weights. */
export function channelAxis({ node }: LinearNode): 0 | 1 {
  return node.opType === 'Conv' || (node.opType === 'Gemm' && node.int('transB', 0) !== 0) ? 0 : 1;
}

function sizePerChannel({ weight, outputChannels }: LinearNode): number {
  return weight.dims.reduce((product, dim) => product * dim, 1) / outputChannels;
}

function constant(graph: Graph, prefix: string, tensor: Parameters<Graph['addInitializer']>[1]): string {
  const name = graph.uniqueName(prefix);
  graph.addInitializer(name, tensor);
  return name;
}

function bytesOf(array: Int8Array): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

/**
 * Puts int8 weights behind DequantizeLinear; the node goes on computing in float.
 * @returns false where no axis of the weights is that of the output channels; nothing is changed then
 */
export function storeWeights(linear: LinearNode, stored?: StoredConstants): boolean {
  const { node, weight } = linear;
  // Grouped ConvTranspose has no single axis of output channels.
  const axis = node.opType === 'ConvTranspose' ? (node.int('group', 1) === 1 ? 1 : undefined) : channelAxis(linear);
  if (axis === undefined) return false;
  storeConstant(node, 1, { weight, axis }, stored);
  return true;
}

/** The same in float16; what that cannot hold stays. */
export function storeHalves({ node, weight }: LinearNode): void {
  const read = addHalf(node, node.inputs[1] ?? '', weight);
  if (read !== undefined) node.setInput(1, read);
}

/** DequantizeLinear readings that were made, by the graph and the name of the constant. */
export type StoredConstants = Map<Graph, Map<string, string>>;

/**
 * Puts the constant at one input behind DequantizeLinear, one int8 scale per index of `axis`, in the graph that defines
 * it: bodies that read one constant go on sharing it.
 */
export function storeConstant(
  node: Node,
  index: number,
  { weight, axis, leastScale }: { weight: Tensor; axis: number; leastScale?: Float32Array | undefined },
  stored: StoredConstants = new Map(),
): void {
  const name = node.inputs[index] ?? '';
  const home = homeOf(node.graph, name);
  const known = stored.get(home)?.get(`${name} ${axis}`);
  if (known !== undefined) return node.setInput(index, known);
  const channels = weight.dims[axis] ?? 1;
  const inner = weight.dims.slice(axis + 1).reduce((product, dim) => product * dim, 1);
  const { q, scale } = quantizeInt8(floats(weight), channels, { inner, leastScale });
  const read = home.uniqueName(`${name}_dq`);
  const inputs = [
    constant(home, `${name}_q`, { dtype: 'int8', dims: weight.dims, bytes: bytesOf(q) }),
    constant(home, `${name}_scale`, tensorFromFloats([channels], scale)),
    zeroPoints(home, name, channels),
  ];
  const alone = home === node.graph && home.consumers(name).length === 1;
  home.addNode(
    { opType: 'DequantizeLinear', inputs, outputs: [read], attributes: { axis: { int: axis } } },
    { before: alone ? node : home.nodes[0] },
  );
  stored.set(home, (stored.get(home) ?? new Map()).set(`${name} ${axis}`, read));
  node.setInput(index, read);
}

/** The graph, this or an outer one, that defines a constant. */
function homeOf(graph: Graph, name: string): Graph {
  const defines = graph.initializers.has(name) || graph.producer(name) !== undefined || graph.isInput(name);
  return defines || graph.owner === undefined ? graph : homeOf(graph.owner.graph, name);
}

/** One tensor for each weight: ONNX Runtime's `session.x64quantprecision` rewrites it, and fails on a shared or absent one. */
function zeroPoints(graph: Graph, prefix: string, channels: number): string {
  return constant(graph, `${prefix}_zero`, { dtype: 'int8', dims: [channels], bytes: new Uint8Array(channels) });
}
