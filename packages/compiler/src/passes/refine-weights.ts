import { cloneModel, floats, type Graph, integers, tensorFromInts } from '@flotilla/onnx';
import { roundWithFeedback } from '@flotilla/quant';
import type { Tensors } from '@flotilla/runtime';
import { z } from 'zod';
import { Probe } from '../calibrate/probe.ts';
import { CompilerError } from '../errors.ts';
import { definePass } from '../pass.ts';
import { setConstant } from './edit.ts';
import { type QuantizedLayer, quantizedLayers } from './int8/layers.ts';
import { channelAxis } from './int8/weights.ts';

/**
 * Rounds the weights of static int8 layers anew, so that their products, not their weights, come out nearest (see
 * `roundWithFeedback`); scales stay. Takes what multiplies whole vectors: MatMul, Gemm and 1×1 convolutions without
 * groups. Where a row's neighbours kept to the sum that 16 bits can hold, they do so afterwards.
 * Layers deeper than `deepest` inputs stay as they are: the work grows with the cube.
 */
export const refineWeights = definePass({
  name: 'refine-weights',
  stage: 'convert',
  options: z.strictObject({
    samples: z.int().positive().default(24),
    deepest: z.int().positive().default(1024),
    damping: z.number().positive().default(0.01),
  }),
  async run(graph, context, { samples, deepest, damping }) {
    if (!context.samples) throw new CompilerError('compiler/calibration', 'refining weights needs calibration data');
    const layers = quantizedLayers(graph, context.floatModel.graph).filter((layer) => takes(layer, deepest));
    if (layers.length === 0) return graph;
    const model = cloneModel(context.floatModel);
    const probe = new Probe(model.graph);
    const measured = layers.map((layer) => addGram(probe, layer));
    model.graph.setOutputs([...new Set(measured)].map((name) => ({ name, type: undefined })));
    model.graph.removeDead();
    const session = await context.open(model);
    const grams = layers.map(({ original }) => new Float64Array(original.inputChannels ** 2));
    let count = 0;
    try {
      for await (const feeds of context.samples()) {
        addTo(grams, measured, await session.run(feeds));
        context.progress(++count, samples);
        if (count === samples) break;
      }
    } finally {
      await session.close();
    }
    for (const [index, layer] of layers.entries()) {
      context.signal?.throwIfAborted();
      const gram = grams[index];
      if (gram) refine(graph, layer, gram, damping);
    }
    return graph;
  },
});

function takes({ original }: QuantizedLayer, deepest: number): boolean {
  const { node, weight, inputChannels } = original;
  const pointwise =
    node.opType !== 'Conv' || (node.int('group', 1) === 1 && weight.dims.slice(2).every((dim) => dim === 1));
  const even =
    node.ints('strides', []).every((stride) => stride === 1) && node.ints('pads', []).every((pad) => pad === 0);
  return pointwise && even && inputChannels <= deepest;
}

/** Σ x·xᵀ over the vectors that the layer reads in one run, `[depth, depth]`. */
function addGram(probe: Probe, { original }: QuantizedLayer): string {
  const { node, inputChannels, weight } = original;
  const [x = ''] = node.inputs;
  const perm = weight.dims.map((_, axis) => (axis === 0 ? 1 : axis === 1 ? 0 : axis));
  const conv = node.opType === 'Conv';
  const shape = probe.constant(tensorFromInts('int64', [2], conv ? [inputChannels, -1] : [-1, inputChannels]));
  const rows = probe.add('Reshape', [conv ? probe.add('Transpose', [x], { perm: { ints: perm } }) : x, shape]);
  const turned = probe.add('Transpose', [rows], { perm: { ints: [1, 0] } });
  return probe.add('MatMul', conv ? [rows, turned] : [turned, rows]);
}

function addTo(grams: readonly Float64Array[], names: readonly string[], results: Tensors): void {
  for (const [index, name] of names.entries()) {
    const result = results[name];
    const gram = grams[index];
    if (result?.dtype !== 'float32' || !gram) continue;
    for (let i = 0; i < gram.length; i++) gram[i] = (gram[i] ?? 0) + (result.data[i] ?? 0);
  }
}

function refine(graph: Graph, { node, original }: QuantizedLayer, gram: Float64Array, damping: number): void {
  const reading = graph.producer(node.inputs[1] ?? '');
  const [old, scale] = [0, 1].map((index) => graph.constant(reading?.inputs[index] ?? ''));
  if (!reading || !old || !scale) return;
  const { outputChannels: rows, inputChannels: depth } = original;
  const last = channelAxis(original) === 1;
  const before = integers(old);
  const at = (row: number, k: number) => (last ? k * rows + row : row * depth + k);
  const [w, given] = [new Float32Array(rows * depth), floats(original.weight)];
  let [most, pairMost] = [0, 0];
  for (let row = 0; row < rows; row++)
    for (let k = 0; k < depth; k++) {
      w[row * depth + k] = given[at(row, k)] ?? 0;
      const q = before[at(row, k)] ?? 0;
      most = Math.max(most, Math.abs(q));
      if (k > 0) pairMost = Math.max(pairMost, Math.abs(q + (before[at(row, k - 1)] ?? 0)));
    }
  const rounded = roundWithFeedback(w, floats(scale), gram, {
    most,
    pairMost: pairMost <= 128 ? 128 : undefined,
    damping,
  });
  const bytes = new Int8Array(rows * depth);
  for (let row = 0; row < rows; row++)
    for (let k = 0; k < depth; k++) bytes[at(row, k)] = rounded[row * depth + k] ?? 0;
  setConstant(reading, 0, { dtype: 'int8', dims: old.dims, bytes: new Uint8Array(bytes.buffer) });
}
