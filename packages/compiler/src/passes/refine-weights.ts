import { roundWithFeedback } from '@flotilla/quant';
import { z } from 'zod';
import { definePass } from '../pass.ts';
import type { QuantizedLayer } from './int8/layers.ts';
import { roundLayers } from './int8/round-layers.ts';

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
  run: (graph, context, { samples, deepest, damping }) =>
    roundLayers(
      graph,
      context,
      samples,
      (layer) => takes(layer, deepest),
      ({ w, scale, gram, most, pairMost }) => roundWithFeedback(w, scale, gram, { most, pairMost, damping }),
    ),
});

function takes({ original }: QuantizedLayer, deepest: number): boolean {
  const { node, weight, inputChannels } = original;
  const pointwise =
    node.opType !== 'Conv' || (node.int('group', 1) === 1 && weight.dims.slice(2).every((dim) => dim === 1));
  const even =
    node.ints('strides', []).every((stride) => stride === 1) && node.ints('pads', []).every((pad) => pad === 0);
  return pointwise && even && inputChannels <= deepest;
}
