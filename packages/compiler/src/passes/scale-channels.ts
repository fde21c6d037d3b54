import { floats, type Graph, type Node, type Tensor, tensorFromFloats } from '@flotilla/onnx';
import { z } from 'zod';
import { CompilerError } from '../errors.ts';
import { type ScaleHome, scaleHomes, searchChannelScales } from '../int4/channel-scales.ts';
import { chosenSites, selection } from '../int4/convert-weights.ts';
import { activationOf, collectHessians } from '../int4/hessians.ts';
import { sizesAt, type WeightSite } from '../int4/weight-site.ts';
import { definePass } from '../pass.ts';
import { setConstant } from './edit.ts';

/**
 * AWQ's scales, before weights are rounded to 4 bits: the inputs that carry most get finer steps, because their weights
 * are multiplied by a scale and what makes the input is divided by it. All readers of a value share its scales; they go
 * into the norm's gain or the projection before, so that nothing is added to the graph. Where neither can take them over,
 * the layer keeps its weights as they are, and the reason is noted; the conversion still weighs errors by inputs.
 * Only matrices (MatMul, Gemm) are looked at.
 * @see Lin et al. 2023, AWQ: Activation-aware Weight Quantization, §3.2
 */
export const scaleChannels = definePass({
  name: 'scale-channels',
  stage: 'rewrite',
  options: z.strictObject({
    /** always: needs calibration data. */
    when: z.enum(['never', 'always']).default('always'),
    /** As convert-int4 will have them. */
    block: z.literal([16, 32, 64, 128, 256]).default(32),
    symmetric: z.boolean().default(false),
    samples: z.int().min(1).default(32),
    minElements: selection.minElements,
  }),
  async run(graph, context, { when, samples, ...options }) {
    if (when === 'never') return graph;
    if (!context.samples) {
      throw new CompilerError('compiler/calibration', 'AWQ needs calibration data', {
        hint: 'give --data, or --method rtn or hqq',
      });
    }
    const chosen = z.object(selection).parse({ ops: ['MatMul', 'Gemm'], minElements: options.minElements });
    const sites = chosenSites(graph, chosen).filter((site) => activationOf(site) !== undefined);
    const hessians = await collectHessians(sites, context, samples, graph.model);
    const groups = byActivation(sites);
    let done = 0;
    for (const [value, readers] of groups) {
      context.signal?.throwIfAborted();
      const hessian = hessians.get(value);
      const homes = homesFor(graph, value, readers);
      const say = (reason: string, outcome?: 'rewritten'): void => {
        for (const { node } of readers) context.note(node, reason, outcome);
      };
      if (typeof homes === 'string') say(`AWQ's scales stay out: ${homes}`);
      else if (hessian) {
        const { scale, left } = searchChannelScales(readers, { ...options, hessian });
        if (left < 1) fold(homes, readers, scale);
        const share = `${Math.round(100 * left)} % of the error is left`;
        say(left < 1 ? `AWQ's scales: ${share}` : 'AWQ’s scales would not help', left < 1 ? 'rewritten' : undefined);
      }
      context.progress(++done, groups.size);
    }
    return graph;
  },
});

function byActivation(sites: readonly WeightSite[]): ReadonlyMap<string, readonly WeightSite[]> {
  const groups = new Map<string, WeightSite[]>();
  for (const site of sites) {
    const value = activationOf(site) ?? '';
    groups.set(value, [...(groups.get(value) ?? []), site]);
  }
  return groups;
}

/** Where the scales of a value go; every reader must be one of the sites, or it would read a scaled value. */
function homesFor(graph: Graph, value: string, readers: readonly WeightSite[]): readonly ScaleHome[] | string {
  const known = new Set<Node>(readers.map(({ node }) => node));
  const stranger = graph.consumers(value).find((node) => !known.has(node) && node.opType !== 'Shape');
  if (stranger) return `${stranger.opType} ${stranger.name} reads the same input`;
  const weights = readers.map(({ node, input }) => node.inputs[input] ?? '');
  const shared = weights.some((name) => graph.consumers(name).length > 1);
  return shared ? 'a weight has other readers' : scaleHomes(graph, value);
}

function fold(homes: readonly ScaleHome[], readers: readonly WeightSite[], scale: Float32Array): void {
  for (const { node, input, tensor, axis } of homes) {
    setConstant(
      node,
      input,
      alongAxis(tensor, axis, (value, k) => value / (scale[k] ?? 1)),
    );
  }
  for (const { node, input, tensor, axis } of readers) {
    setConstant(
      node,
      input,
      alongAxis(tensor, axis, (value, k) => value * (scale[k] ?? 1)),
    );
  }
}

function alongAxis(tensor: Tensor, axis: number, change: (value: number, k: number) => number) {
  const { cols, inner } = sizesAt(tensor.dims, axis);
  const changed = floats(tensor).map((value, i) => change(value, Math.floor(i / inner) % cols));
  return tensorFromFloats(tensor.dims, changed);
}
