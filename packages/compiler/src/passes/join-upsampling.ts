import { floats, type Node, tensorFromFloats } from '@flotilla/onnx';
import { z } from 'zod';
import { definePass } from '../pass.ts';
import { setConstant, soleReader } from './edit.ts';
import { linearNode } from './linear.ts';

/**
 * A ConvTranspose whose windows do not overlap makes of each pixel a block of its own. Where activations and a second
 * one, or a 1×1 convolution, to few channels follow, all of it is computed before any pixel moves: a 1×1 convolution to
 * the channels of a whole block, the activations, a second 1×1 convolution, and one DepthToSpace at the end. That moves
 * a few channels where the first ConvTranspose scattered many, and convolutions have integer kernels.
 * Stays where the second product, which reads all pixels of a block, would be larger than the first, or where the zeros
 * in it would cost more than moving pixels does.
 */
export const joinUpsampling = definePass({
  name: 'join-upsampling',
  stage: 'rewrite',
  options: z.strictObject({}),
  run(graph, { note }) {
    for (const node of Array.from(graph.walk({ opType: 'ConvTranspose' }))) {
      const first = blocksOf(node);
      const found = first && followedBy(first);
      if (!first || !found || !isWorthIt(first, found.second)) continue;
      join(first, found.between, found.second);
      note(found.second.node, 'computed with the upsampling before it, before pixels move', 'rewritten');
    }
    return graph;
  },
});

/** Products of zeros for each element that need not be scattered: it takes 4 ns, 160 products on Zen 3; a third of that. */
const MOST_PRODUCTS = 53;

/** Computes of a channel's element alone, whatever its place. */
const activations: ReadonlySet<string> = new Set([
  'Relu',
  'LeakyRelu',
  'Clip',
  'Sigmoid',
  'HardSigmoid',
  'HardSwish',
  'Tanh',
  'Elu',
]);

/** `y[c, h·size + i, w·size + j] = Σ x[k, h, w] · weight(k, c, i, j) + bias[c]`. */
interface Blocks {
  readonly node: Node;
  readonly size: number;
  readonly inputs: number;
  readonly outputs: number;
  readonly bias: Float32Array;
  readonly weight: (input: number, output: number, row: number, column: number) => number;
}

/** A ConvTranspose whose kernel is its stride, or (`size` 1) a 1×1 convolution; undefined for any other node. */
function blocksOf(node: Node): Blocks | undefined {
  const linear = linearNode(node);
  if (!linear || linear.shared || linear.weight.dims.length !== 4 || node.int('group', 1) !== 1) return undefined;
  const [, , height = 0, width = 0] = linear.weight.dims;
  const transposed = node.opType === 'ConvTranspose';
  if (!(transposed || node.opType === 'Conv') || height !== width || (!transposed && height !== 1)) return undefined;
  const size = height;
  const all = (name: string, value: number) => node.ints(name, []).every((one) => one === value);
  const steps = node.ints('strides', [1, 1]).every((stride) => stride === size);
  const plain =
    all('pads', 0) && all('output_padding', 0) && all('dilations', 1) && !node.attributes.has('output_shape');
  if (!steps || !plain || !['NOTSET', 'VALID'].includes(node.string('auto_pad', 'NOTSET'))) return undefined;
  const { inputChannels: inputs, outputChannels: outputs } = linear;
  const w = floats(linear.weight);
  return {
    node,
    size,
    inputs,
    outputs,
    bias: linear.bias ? floats(linear.bias) : new Float32Array(outputs),
    weight: (k, c, i, j) => w[transposed ? ((k * outputs + c) * size + i) * size + j : c * inputs + k] ?? 0,
  };
}

/** The activations behind it, and what reads them. */
function followedBy({ node }: Blocks): { readonly between: readonly Node[]; readonly second: Blocks } | undefined {
  const between: Node[] = [];
  for (let at = node; ; ) {
    const reader = soleReader(node.graph, at.outputs[0] ?? '');
    if (!reader || reader.domain !== '' || reader.inputs[0] !== at.outputs[0]) return undefined;
    if (!activations.has(reader.opType)) {
      const second = blocksOf(reader);
      return second && { between, second };
    }
    between.push(reader);
    at = reader;
  }
}

function isWorthIt(first: Blocks, second: Blocks): boolean {
  const rows = second.size ** 2 * second.outputs;
  const zeros = (first.size ** 2 - 1) * rows;
  return first.size > 1 && first.size ** 2 * rows <= first.inputs && zeros <= MOST_PRODUCTS;
}

function join(first: Blocks, between: readonly Node[], second: Blocks): void {
  const { graph } = first.node;
  const [output = ''] = second.node.outputs;
  const size = first.size * second.size;
  const channels = first.size ** 2 * first.outputs;
  let value = graph.uniqueName(`${first.node.outputs[0]}_blocks`);
  addPointwise(first, { input: first.node.inputs[0] ?? '', output: value }, firstProduct(first), channels);
  for (const node of between) {
    const made = graph.uniqueName(`${node.outputs[0]}_blocks`);
    node.setInput(0, value);
    node.setOutput(0, made);
    value = made;
  }
  const blocks = graph.uniqueName(`${output}_blocks`);
  addPointwise(second, { input: value, output: blocks }, secondProduct(first, second), size ** 2 * second.outputs);
  graph.removeNode(first.node);
  const after = graph.nodes[graph.nodes.indexOf(second.node) + 1];
  graph.removeNode(second.node);
  // Channels are blocks first (DCR, the default): channel (i · size + j) · outputs + c.
  const attributes = { blocksize: { int: size } };
  graph.addNode({ opType: 'DepthToSpace', inputs: [blocks], outputs: [output], attributes }, { before: after });
}

function addPointwise(
  { node, outputs, bias }: Blocks,
  { input, output }: { readonly input: string; readonly output: string },
  weights: Float32Array,
  channels: number,
): void {
  const made = node.graph.addNode(
    {
      opType: 'Conv',
      name: node.name,
      inputs: [input, node.inputs[1] ?? '', ''],
      outputs: [output],
      attributes: { kernel_shape: { ints: [1, 1] } },
    },
    { before: node },
  );
  setConstant(made, 1, tensorFromFloats([channels, weights.length / channels, 1, 1], weights));
  const biases = Float32Array.from({ length: channels }, (_, channel) => bias[channel % outputs] ?? 0);
  setConstant(made, 2, tensorFromFloats([channels], biases), 'bias');
}

/** `[(i · size + j) · outputs + c, k]` */
function firstProduct({ size, inputs, outputs, weight }: Blocks): Float32Array {
  return Float32Array.from({ length: size * size * outputs * inputs }, (_, at) => {
    const [row, k] = [Math.floor(at / inputs), at % inputs];
    const place = Math.floor(row / outputs);
    return weight(k, row % outputs, Math.floor(place / size), place % size);
  });
}

/** Each pixel of the outer block reads the channels of its own pixel of the inner one; the rest is 0. */
function secondProduct(first: Blocks, second: Blocks): Float32Array {
  const [s, t] = [first.size, second.size];
  const depth = s * s * first.outputs;
  const weights = new Float32Array((s * t) ** 2 * second.outputs * depth);
  for (let i = 0; i < s * t; i++)
    for (let j = 0; j < s * t; j++)
      for (let c = 0; c < second.outputs; c++) {
        const row = (i * s * t + j) * second.outputs + c;
        const from = (Math.floor(i / t) * s + Math.floor(j / t)) * first.outputs;
        for (let k = 0; k < first.outputs; k++) weights[row * depth + from + k] = second.weight(k, c, i % t, j % t);
      }
  return weights;
}
