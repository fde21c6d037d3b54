import { cloneModel, type Graph, type Model, type Node, tensorFromInts } from '@flotilla/onnx';
import type { TensorValue } from '@flotilla/runtime';
import type { PassContext } from '../pass.ts';
import type { WeightSite } from './weight-site.ts';

/** `Σ x·xᵀ` over the calibration data, `[cols, cols]`, by the name of the value that a layer multiplies by its weight. */
export type Hessians = ReadonlyMap<string, Float64Array>;

/** Beyond this GPTQ's cubic cost in JavaScript is minutes a layer. */
const MOST_COLS = 2048;

/** The value whose energy steers the rounding of the site's weight; undefined where GPTQ does not apply. */
export function activationOf({ node, tensor, axis }: WeightSite): string | undefined {
  if (node.graph.owner !== undefined || (tensor.dims[axis] ?? 0) > MOST_COLS) return undefined;
  const plain =
    (node.opType === 'MatMul' && tensor.dims.length === 2) ||
    (node.opType === 'Gemm' && node.int('transA', 0) === 0) ||
    (node.opType === 'Conv' && node.int('group', 1) === 1);
  return plain ? node.inputs[0] : undefined;
}

/**
 * Runs the calibration samples through the float model with `xᵀx` of each layer's input as outputs: what leaves the
 * engine has a fixed size, whatever the samples' is.
 * @param limit samples that are run
 * @param model runs in place of the float model: a rewrite's graph is not yet that
 */
export async function collectHessians(
  sites: readonly WeightSite[],
  context: PassContext,
  limit: number,
  model: Model = context.floatModel,
): Promise<Hessians> {
  const sums = new Map<string, Float64Array>();
  const probe = cloneModel(model);
  const outputs = new Map<string, string>();
  for (const site of sites) {
    const value = activationOf(site);
    if (value === undefined || outputs.has(value)) continue;
    const rows = addRows(probe.graph, value, site.node, site.tensor.dims[site.axis] ?? 0);
    outputs.set(value, addGram(probe.graph, rows, rows));
  }
  if (outputs.size === 0 || !context.samples) return sums;
  probe.graph.setOutputs([...outputs.values()].map((name) => ({ name, type: undefined })));
  probe.graph.removeDead();
  const session = await context.open(probe, { optimization: 'basic' });
  try {
    let count = 0;
    for await (const feeds of context.samples()) {
      context.signal?.throwIfAborted();
      const grams = await session.run(feeds);
      for (const [value, output] of outputs) addTo(sums, value, grams[output]);
      count += 1;
      context.progress(count, limit);
      if (count === limit) break;
    }
  } finally {
    await session.close();
  }
  return sums;
}

/** Adds a value flattened to `[rows, cols]`: a convolution's channels go last first. Returns its name. */
export function addRows(graph: Graph, value: string, { opType }: Node, cols: number): string {
  const shape = graph.uniqueName('gram_shape');
  graph.addInitializer(shape, tensorFromInts('int64', [2], [-1, cols]));
  if (opType !== 'Conv') return add(graph, 'Reshape', [value, shape]);
  // [N, C, …] → [N, C, rest] → [N, rest, C] → [rows, C], for any number of spatial axes.
  const merged = graph.uniqueName('gram_merged');
  graph.addInitializer(merged, tensorFromInts('int64', [3], [0, cols, -1]));
  const channels = add(graph, 'Reshape', [value, merged]);
  return add(graph, 'Reshape', [add(graph, 'Transpose', [channels], { perm: { ints: [0, 2, 1] } }), shape]);
}

/** Adds `aᵀb` of two values with as many rows. Returns its name. */
export function addGram(graph: Graph, a: string, b: string): string {
  return add(graph, 'MatMul', [add(graph, 'Transpose', [a], { perm: { ints: [1, 0] } }), b]);
}

function add(graph: Graph, opType: string, inputs: readonly string[], attributes = {}): string {
  const output = graph.uniqueName(`gram_${opType}`);
  graph.addNode({ opType, inputs, outputs: [output], attributes });
  return output;
}

/** Adds a product of one sample to the sum under its name. */
export function addTo(sums: Map<string, Float64Array>, name: string, gram: TensorValue | undefined): void {
  if (gram?.dtype !== 'float32') return;
  const sum = sums.get(name);
  if (!sum) sums.set(name, Float64Array.from(gram.data));
  else for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] ?? 0) + (gram.data[i] ?? 0);
}
