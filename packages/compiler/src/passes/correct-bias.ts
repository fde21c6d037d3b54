import { cloneModel, floats, type Graph, integers, tensorFromFloats, tensorFromInts } from '@flotilla/onnx';
import type { Tensors } from '@flotilla/runtime';
import { z } from 'zod';
import { Probe } from '../calibrate/probe.ts';
import { CompilerError } from '../errors.ts';
import { definePass } from '../pass.ts';
import { setConstant } from './edit.ts';
import { newAttributes, type QuantizedLayer, quantizedLayers } from './int8/layers.ts';

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
    const model = cloneModel(context.floatModel);
    const probe = new Probe(model.graph);
    const layers = quantizedLayers(graph, context.floatModel.graph).filter(
      ({ node, sum }) => sum ?? (node.inputs[2] ?? '') !== '',
    );
    if (layers.length === 0) return graph;
    const measured = layers.map((layer) => addMeasurement(probe, graph, layer));
    model.graph.setOutputs(measured.map((name) => ({ name, type: undefined })));
    model.graph.removeDead();
    const session = await context.open(model, { optimization: 'basic' });
    const sums = layers.map(({ original }) => new Float64Array(original.outputChannels));
    let count = 0;
    try {
      for await (const feeds of context.samples()) {
        addTo(sums, measured, await session.run(feeds));
        context.progress(++count, samples);
        if (count === samples) break;
      }
    } finally {
      await session.close();
    }
    for (const [index, layer] of layers.entries())
      correct(
        graph,
        layer,
        sums[index]?.map((sum) => sum / count),
      );
    return graph;
  },
});

/** Adds this layer, quantized, behind the float graph, and its mean difference per channel. Returns the name of that. */
function addMeasurement(probe: Probe, graph: Graph, { node, original }: QuantizedLayer): string {
  const readingOf = (index: number) => {
    const producer = graph.producer(node.inputs[index] ?? '');
    const constants = producer?.inputs.map((value) => graph.constant(value));
    if (!producer || !constants)
      throw new CompilerError('compiler/graph', `input ${index} is no integer`, { where: node.name });
    const copies = constants.map((tensor) =>
      tensor ? probe.constant({ dtype: tensor.dtype, dims: tensor.dims, bytes: tensor.bytes() }) : '',
    );
    return { copies, axis: producer.int('axis', 1) };
  };
  const [, scale = '', zero = ''] = readingOf(0).copies;
  const q = probe.add('QuantizeLinear', [original.node.inputs[0] ?? '', scale, zero]);
  const x = probe.add('DequantizeLinear', [q, scale, zero]);
  const parameters = [1, 2].slice(0, node.opType === 'MatMul' ? 1 : 2).map((index) => {
    const { copies, axis } = readingOf(index);
    return probe.add('DequantizeLinear', copies, { axis: { int: axis } });
  });
  const y = probe.add(node.opType, [x, ...parameters], newAttributes(node.attributes));
  const error = probe.add('Sub', [y, original.node.outputs[0] ?? '']);
  if (node.opType === 'Conv') {
    const axes = original.weight.dims.map((_, axis) => axis).filter((axis) => axis !== 1);
    return meanOver(probe, error, axes);
  }
  const shape = probe.constant(tensorFromInts('int64', [2], [-1, original.outputChannels]));
  return meanOver(probe, probe.add('Reshape', [error, shape]), [0]);
}

function meanOver(probe: Probe, value: string, axes: readonly number[]): string {
  return probe.add('ReduceMean', [value, probe.constant(tensorFromInts('int64', [axes.length], axes))], {
    keepdims: { int: 0 },
  });
}

function addTo(sums: readonly Float64Array[], names: readonly string[], results: Tensors): void {
  for (const [index, name] of names.entries()) {
    const result = results[name];
    const sum = sums[index];
    if (result?.dtype !== 'float32' || !sum) continue;
    for (let c = 0; c < sum.length; c++) sum[c] = (sum[c] ?? 0) + (result.data[c] ?? 0);
  }
}

function correct(graph: Graph, { node, sum }: QuantizedLayer, error: Float64Array | undefined): void {
  if (!error) return;
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
  const corrected = integers(bias).map((value, c) => clampBias(value - Math.round((error[c] ?? 0) / (scales[c] ?? 1))));
  setConstant(reading, 0, tensorFromInts('int32', bias.dims, corrected));
}

const clampBias = (value: number) => Math.max(-(2 ** 30), Math.min(2 ** 30, value));
