import type { Graph } from '@flotilla/onnx';
import { z } from 'zod';
import { observe } from '../calibrate/observe.ts';
import { CompilerError } from '../errors.ts';
import { definePass } from '../pass.ts';
import type { RecipeStep } from '../recipe.ts';
import { observedValues } from './int8/observed.ts';
import { staticOptions } from './int8/static-options.ts';

/**
 * Runs the calibration samples through the float model and keeps a streaming histogram of every activation that the
 * conversions that follow ask for. Memory depends on the number of values, never on the number or shape of samples.
 * `averaging`: weight of each new sample for the observer `moving-average`.
 * @throws {CompilerError} `compiler/calibration`: no data, a sample of the wrong shape or type, NaN
 */
export const calibrate = definePass({
  name: 'calibrate',
  stage: 'calibrate',
  options: z.strictObject({
    samples: z.int().positive().default(192),
    fewest: z.int().nonnegative().default(16),
    averaging: z.number().gt(0).max(1).default(0.01),
  }),
  async run(graph, context, { samples, fewest, averaging }) {
    if (!context.samples)
      throw new CompilerError('compiler/calibration', 'there is no calibration data', { hint: 'give --data' });
    const values = valuesFor(graph, context.later);
    const calibration = await observe(graph.model, values, context, { most: samples, averaging });
    if (calibration.samples < fewest)
      context.warn(
        `${calibration.samples} calibration samples of at least ${fewest}: an interval must hold what inputs never seen ` +
          'will bring, and so few tell too little of the rare large values',
      );
    context.keepCalibration(calibration);
    return graph;
  },
});

/** What the static conversions that follow ask for; without any, whatever one could. */
function valuesFor(graph: Graph, later: readonly RecipeStep[]): readonly string[] {
  const wanted = later.filter(({ pass }) => pass === 'quantize-int8-static');
  const plans = wanted.map(({ options }) => staticOptions.parse(options));
  const any = [true, false].map((floatPooled) => ({
    floatPooled,
    integerExcitation: true,
    keepFirst: 0,
    exclude: [],
  }));
  return observedValues(graph, plans.length > 0 ? plans : any);
}
