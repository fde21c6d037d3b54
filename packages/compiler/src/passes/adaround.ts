import { adaround as roundAdaptively } from '@flotilla/quant';
import { z } from 'zod';
import { definePass } from '../pass.ts';
import { roundLayers } from './int8/round-layers.ts';
import { isShallow } from './int8/rounding.ts';

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
  run: (graph, context, { samples, deepest, damping, sweeps }) =>
    roundLayers(
      graph,
      context,
      samples,
      (layer) => isShallow(layer, deepest),
      ({ q, w, scale, gram, most, pairMost, kernel }) =>
        roundAdaptively(q, w, scale, gram, { most, pairMost, kernel, damping, sweeps }),
    ),
});
