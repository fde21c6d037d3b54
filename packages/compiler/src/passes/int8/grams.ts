import { cloneModel, tensorFromFloats, tensorFromInts } from '@flotilla/onnx';
import { Probe } from '../../calibrate/probe.ts';
import type { PassContext } from '../../pass.ts';
import type { LinearNode } from '../linear.ts';
import { newAttributes, type QuantizedLayer } from './layers.ts';

/** Σ x·xᵀ of what each row of a layer's weights is multiplied with, `[groups, depth, depth]`. */
export interface Gram {
  readonly groups: number;
  readonly depth: number;
  readonly sums: Float64Array;
}

/** Groups of a layer, and weights of one row. */
export function gramSize({ node, weight, inputChannels }: LinearNode): { groups: number; depth: number } {
  if (node.opType !== 'Conv') return { groups: 1, depth: inputChannels };
  const [, ...rest] = weight.dims;
  return { groups: node.int('group', 1), depth: rest.reduce((product, dim) => product * dim, 1) };
}

/**
 * Runs calibration samples through the float model with the Gram matrix of each layer's inputs as outputs: what leaves
 * the engine has a fixed size, whatever the samples' is.
 */
export async function collectGrams(
  layers: readonly QuantizedLayer[],
  context: PassContext,
  samples: number,
): Promise<readonly Gram[]> {
  const model = cloneModel(context.floatModel);
  const probe = new Probe(model.graph);
  const names = layers.map(({ original }) => addGram(probe, original));
  model.graph.setOutputs([...new Set(names)].map((name) => ({ name, type: undefined })));
  model.graph.removeDead();
  const session = await context.open(model);
  const grams = layers.map(({ original }): Gram => {
    const { groups, depth } = gramSize(original);
    return { groups, depth, sums: new Float64Array(groups * depth * depth) };
  });
  let count = 0;
  try {
    for await (const feeds of context.samples?.() ?? []) {
      context.signal?.throwIfAborted();
      const found = await session.run(feeds);
      for (const [index, name] of names.entries()) addTo(grams[index], found[name]?.data as Float32Array | undefined);
      context.progress(++count, samples);
      if (count === samples) break;
    }
  } finally {
    await session.close();
  }
  return grams;
}

function addGram(probe: Probe, linear: LinearNode): string {
  const { node, inputChannels } = linear;
  const [x = ''] = node.inputs;
  if (node.opType !== 'Conv') {
    const rows = probe.add('Reshape', [x, shapeOf(probe, -1, inputChannels)]);
    return probe.add('MatMul', [probe.add('Transpose', [rows], { perm: { ints: [1, 0] } }), rows]);
  }
  const { groups, depth } = gramSize(linear);
  const isPointwise = depth === inputChannels && isDense(node);
  const patches = isPointwise ? x : patchesOf(probe, linear);
  // [N, groups · depth, …] → [groups, depth, N · places]
  const rows = probe.add('Reshape', [patches, shapeOf(probe, 0, groups * depth, -1)]);
  const channelsFirst = probe.add('Transpose', [rows], { perm: { ints: [1, 0, 2] } });
  const columns = probe.add('Reshape', [channelsFirst, shapeOf(probe, groups, depth, -1)]);
  return probe.add('MatMul', [columns, probe.add('Transpose', [columns], { perm: { ints: [0, 2, 1] } })]);
}

const isDense = (node: LinearNode['node']) =>
  node.int('group', 1) === 1 &&
  node.ints('strides', []).every((stride) => stride === 1) &&
  node.ints('pads', []).every((pad) => pad === 0);

/** What each place of a convolution reads, its channels in the order of the weights: a convolution that copies. */
function patchesOf(probe: Probe, { node, weight, inputChannels }: LinearNode): string {
  const kernel = weight.dims.slice(2);
  const size = kernel.reduce((product, dim) => product * dim, 1);
  const copies = new Float32Array(inputChannels * size * size);
  for (let i = 0; i < inputChannels * size; i++) copies[i * size + (i % size)] = 1;
  const one = probe.constant(tensorFromFloats([inputChannels * size, 1, ...kernel], copies));
  const attributes = { ...newAttributes(node.attributes), group: { int: inputChannels } };
  return probe.add('Conv', [node.inputs[0] ?? '', one], attributes);
}

function shapeOf(probe: Probe, ...dims: readonly number[]): string {
  return probe.constant(tensorFromInts('int64', [dims.length], dims));
}

function addTo(gram: Gram | undefined, found: Float32Array | undefined): void {
  if (!gram || !found) return;
  const { sums } = gram;
  for (let i = 0; i < sums.length; i++) sums[i] = (sums[i] ?? 0) + (found[i] ?? 0);
}
