import { z } from 'zod';
import { observe } from '../calibrate/observe.ts';
import { CompilerError } from '../errors.ts';
import { definePass } from '../pass.ts';
import { observedValues } from './int8/observed.ts';

/**
 * Runs the calibration samples through the float model and keeps a streaming histogram of every activation that a
 * conversion could ask for. Memory depends on the number of values, never on the number or shape of samples.
 * @throws {CompilerError} `compiler/calibration`: no data, a sample of the wrong shape or type, NaN
 */
export const calibrate = definePass({
  name: 'calibrate',
  stage: 'calibrate',
  options: z.strictObject({ samples: z.int().positive().default(64), fewest: z.int().nonnegative().default(16) }),
  async run(graph, context, { samples, fewest }) {
    if (!context.samples)
      throw new CompilerError('compiler/calibration', 'there is no calibration data', { hint: 'give --data' });
    const calibration = await observe(graph.model, observedValues(graph), context, samples);
    if (calibration.samples < fewest)
      context.warn(`${calibration.samples} calibration samples: intervals from fewer than ${fewest} seldom hold`);
    context.keepCalibration(calibration);
    return graph;
  },
});
