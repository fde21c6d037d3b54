import { observers } from '@flotilla/quant';
import { z } from 'zod';

/** Options of `quantize-int8-static`; `calibrate` reads them too, to observe no more than they need. */
export const staticOptions = z.strictObject({
  /** How intervals of activations are chosen: see quant's `observers`. */
  observer: z.enum(observers).default('percentile'),
  /** For the observer of that name: the share of values to keep, in percent. */
  percentile: z.number().gt(50).max(100).default(99.99),
  /** One interval around 0 for activations that have a negative side; gates keep theirs. */
  symmetric: z.boolean().default(false),
  /**
   * The integers that activations become. `uint8` is what x86 multiplies; ARM's kernels take either, and with signed
   * weights neither is slower. `int8` is the same steps, shifted by 128.
   */
  activations: z.enum(['uint8', 'int8']).default('uint8'),
  /** One scale per output channel; false: one per weight tensor. */
  perChannel: z.boolean().default(true),
  /** See `WeightRange`; auto: `pairs` for x86 without VNNI and for a portable model, `full` for one known board else. */
  weightRange: z.enum(['auto', 'full', 'pairs', 'reduced']).default('auto'),
  /** Convolutions at the start that stay float. */
  keepFirst: z.int().nonnegative().default(0),
  /** Leaves what would not be faster in integers in float, its weights stored in int8: see `fasterInFloat`. */
  onlyIfFaster: z.boolean().default(false),
  /**
   * Signal over noise of the outputs, in dB, that is aimed at: where it is missed, as many of the first convolutions as
   * it takes compute in float. 0: none do. See `firstInFloat`.
   */
  floor: z.number().nonnegative().default(0),
  /** Names of nodes and operators that stay float. */
  exclude: z.array(z.string()).default([]),
  /** See `PlanOptions`. */
  floatPooled: z.boolean().default(true),
  /** See `PlanOptions`. */
  integerExcitation: z.boolean().default(false),
});

export type StaticOptions = z.output<typeof staticOptions>;
