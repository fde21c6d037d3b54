import { adaround as roundAdaptively } from '@flotilla/quant';
import { z } from 'zod';
import { CompilerError } from '../errors.ts';
import { definePass } from '../pass.ts';
import { collectGrams } from './int8/grams.ts';
import { quantizedLayers } from './int8/layers.ts';
import { isShallow, roundAnew } from './int8/rounding.ts';

/**
 * Moves the integers of static int8 layers up or down by a step wherever that lowers the error of the layer's product on
 * calibration samples; scales stay. Takes every kind of layer, depthwise and with large kernels too, and begins with the
 * integers that it finds: rounded to nearest, or by `refine-weights`, which alone sees farther than one weight at a time.
 * Layers whose rows are deeper than `deepest` stay as they are. `samples` bounds the runs, `sweeps` the search.
 * @throws {CompilerError} `compiler/calibration` where there are no samples
 * @see Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization" (2020), and quant's `adaround`
 */
export const adaround = definePass({
  name: 'adaround',
  stage: 'convert',
  options: z.strictObject({
    samples: z.int().positive().default(24),
    deepest: z.int().positive().default(1024),
    damping: z.number().positive().default(0.01),
    sweeps: z.int().positive().default(20),
  }),
  async run(graph, context, { samples, deepest, damping, sweeps }) {
    if (!context.samples) throw new CompilerError('compiler/calibration', 'adaround needs calibration data');
    const layers = quantizedLayers(graph, context.floatModel.graph).filter((layer) => isShallow(layer, deepest));
    if (layers.length === 0) return graph;
    const grams = await collectGrams(layers, context, samples);
    for (const [index, layer] of layers.entries()) {
      context.signal?.throwIfAborted();
      const gram = grams[index];
      if (gram)
        roundAnew(graph, layer, gram, ({ q, w, scale, gram: sums, most, pairMost, kernel }) =>
          roundAdaptively(q, w, scale, sums, { most, pairMost, kernel, damping, sweeps }),
        );
    }
    return graph;
  },
});
