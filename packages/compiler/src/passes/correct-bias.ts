import { cloneModel, floats, type Graph, integers, type Node, tensorFromFloats, tensorFromInts } from '@flotilla/onnx';
import type { Tensors } from '@flotilla/runtime';
import { z } from 'zod';
import { CompilerError } from '../errors.ts';
import { definePass } from '../pass.ts';
import { setConstant, soleReader } from './edit.ts';
import { linearNode } from './linear.ts';

/**
 * Takes the mean error that quantizing a layer makes, per output channel, out of its bias (for MatMul: out of the
 * constant added behind it). The error is measured, layer by layer, on calibration samples: the float layer against the
 * same layer with this graph's weights and its input rounded and cut as here. Each layer is measured on float inputs,
 * so the errors of the layers before are not corrected twice.
 * @see Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction" (2019), §4.2
 */
export const correctBias = definePass({
  name: 'correct-bias',
  stage: 'convert',
  options: z.strictObject({ samples: z.int().positive().default(24) }),
  async run(graph, context, { samples }) {
    if (!context.samples) throw new CompilerError('compiler/calibration', 'bias correction needs calibration data');
    const probe = cloneModel(context.floatModel);
    const layers = quantizedLayers(graph, context.floatModel.graph);
    if (layers.length === 0) return graph;
    const measured = layers.map((layer) => addMeasurement(probe.graph, graph, layer));
    probe.graph.setOutputs(measured.map((name) => ({ name, type: undefined })));
    probe.graph.removeDead();
    const session = await context.open(probe, { optimization: 'basic' });
    const sums = layers.map(({ channels }) => new Float64Array(channels));
    let count = 0;
    try {
      for await (const feeds of context.samples()) {
        add(sums, measured, await session.run(feeds));
        context.progress(++count, samples);
        if (count === samples) break;
      }
    } finally {
      await session.close();
    }
    for (const [index, layer] of layers.entries()) {
      const mean = sums[index]?.map((sum) => sum / count) ?? new Float64Array(layer.channels);
      correct(graph, layer, mean);
    }
    return graph;
  },
});

interface Layer {
  /** In the quantized graph. */
  readonly node: Node;
  /** The same in the float one. */
  readonly original: Node;
  readonly channels: number;
  /** MatMul: the sum behind it, and which of its inputs is the constant. */
  readonly sum: { readonly node: Node; readonly index: 0 | 1 } | undefined;
}

function quantizedLayers(graph: Graph, floatGraph: Graph): Layer[] {
  const layers: Layer[] = [];
  for (const node of graph.nodes) {
    if (
      !['Conv', 'Gemm', 'MatMul'].includes(node.opType) ||
      !isReading(graph, node.inputs[0]) ||
      !isReading(graph, node.inputs[1])
    )
      continue;
    const original = floatGraph.producer(node.outputs[0] ?? '');
    const linear = original && linearNode(original);
    // A node whose output took another name (it is the graph's own) is left as it is.
    if (!linear || original.opType !== node.opType) continue;
    const sum = node.opType === 'MatMul' ? sumBehind(graph, node, linear.outputChannels) : undefined;
    if (node.opType === 'MatMul' ? sum : isReading(graph, node.inputs[2]))
      layers.push({ node, original, channels: linear.outputChannels, sum });
  }
  return layers;
}

function isReading(graph: Graph, value: string | undefined): boolean {
  return graph.producer(value ?? '')?.opType === 'DequantizeLinear';
}

function sumBehind(graph: Graph, node: Node, channels: number): Layer['sum'] {
  const reader = soleReader(graph, node.outputs[0] ?? '');
  if (reader?.opType !== 'Add') return undefined;
  for (const index of [1, 0] as const) {
    const constant = graph.constant(reader.inputs[index] ?? '');
    if (constant?.dtype === 'float32' && constant.dims.at(-1) === channels && constant.byteLength === 4 * channels)
      return { node: reader, index };
  }
  return undefined;
}

/** Adds to the float graph: this layer, quantized, and its mean difference per channel. Returns the name of that. */
function addMeasurement(probe: Graph, graph: Graph, { node, original, channels }: Layer): string {
  const name = (part: string) => probe.uniqueName(`measure_${part}`);
  const chain = (opType: string, inputs: readonly string[], attributes = {}): string => {
    const output = name(opType);
    probe.addNode({ opType, inputs, outputs: [output], attributes });
    return output;
  };
  const copy = (value: string): string => {
    const tensor = graph.constant(value);
    if (!tensor) throw new CompilerError('compiler/graph', `${value} is not a constant`, { where: node.name });
    const made = name('constant');
    probe.addInitializer(made, { dtype: tensor.dtype, dims: tensor.dims, bytes: tensor.bytes() });
    return made;
  };
  const reading = (index: number): Node => {
    const producer = graph.producer(node.inputs[index] ?? '');
    if (!producer)
      throw new CompilerError('compiler/graph', `${node.inputs[index]} is not made here`, { where: node.name });
    return producer;
  };
  const [scale = '', zero = ''] = reading(0).inputs.slice(1).map(copy);
  const x = chain('DequantizeLinear', [chain('QuantizeLinear', [original.inputs[0] ?? '', scale, zero]), scale, zero]);
  const parameters = [1, 2].slice(0, node.opType === 'MatMul' ? 1 : 2).map((index) => {
    const producer = reading(index);
    return chain('DequantizeLinear', producer.inputs.map(copy), { axis: { int: producer.int('axis', 1) } });
  });
  const y = name('layer');
  const twin = probe.addNode({ opType: node.opType, inputs: [x, ...parameters], outputs: [y] });
  for (const [key, attribute] of node.attributes) copyAttribute(twin, key, attribute);
  const error = chain('Sub', [y, original.outputs[0] ?? '']);
  if (node.opType === 'Conv') {
    const rank = original.graph.constant(original.inputs[1] ?? '')?.dims.length ?? 4;
    const axes = Array.from({ length: rank - 1 }, (_, i) => (i === 0 ? 0 : i + 1));
    return mean(probe, error, axes, name);
  }
  const shape = name('shape');
  probe.addInitializer(shape, tensorFromInts('int64', [2], [-1, channels]));
  return mean(probe, chain('Reshape', [error, shape]), [0], name);
}

function mean(probe: Graph, value: string, axes: readonly number[], name: (part: string) => string): string {
  const [list, output] = [name('axes'), name('mean')];
  probe.addInitializer(list, tensorFromInts('int64', [axes.length], axes));
  probe.addNode({
    opType: 'ReduceMean',
    inputs: [value, list],
    outputs: [output],
    attributes: { keepdims: { int: 0 } },
  });
  return output;
}

function copyAttribute(
  node: Node,
  key: string,
  attribute: Node['attributes'] extends ReadonlyMap<string, infer A> ? A : never,
): void {
  if (attribute.kind === 'int') node.setAttribute(key, { int: attribute.value });
  else if (attribute.kind === 'ints') node.setAttribute(key, { ints: attribute.value });
  else if (attribute.kind === 'string') node.setAttribute(key, { string: attribute.value });
  else if (attribute.kind === 'float') node.setAttribute(key, { float: attribute.value });
}

function add(sums: readonly Float64Array[], names: readonly string[], results: Tensors): void {
  for (const [index, name] of names.entries()) {
    const result = results[name];
    const sum = sums[index];
    if (result?.dtype !== 'float32' || !sum) continue;
    for (let c = 0; c < sum.length; c++) sum[c] = (sum[c] ?? 0) + (result.data[c] ?? 0);
  }
}

function correct(graph: Graph, { node, sum }: Layer, error: Float64Array): void {
  if (sum) {
    const tensor = graph.constant(sum.node.inputs[sum.index] ?? '');
    if (!tensor) return;
    const corrected = floats(tensor).map((value, c) => value - (error[c] ?? 0));
    setConstant(sum.node, sum.index, tensorFromFloats(tensor.dims, corrected));
    return;
  }
  const reading = graph.producer(node.inputs[2] ?? '');
  const [bias, scale] = [0, 1].map((index) => graph.constant(reading?.inputs[index] ?? ''));
  if (!reading || !bias || !scale) return;
  const scales = floats(scale);
  const corrected = integers(bias).map((value, c) =>
    clampInt32(value - Math.round((error[c] ?? 0) / (scales[c] ?? 1))),
  );
  setConstant(reading, 0, tensorFromInts('int32', bias.dims, corrected));
}

const clampInt32 = (value: number) => Math.max(-(2 ** 30), Math.min(2 ** 30, value));
