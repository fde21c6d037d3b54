import type { RangeHistogram } from '@flotilla/quant';

/** Activation statistics over the calibration samples, in memory that does not grow with them. */
export interface Calibration {
  readonly samples: number;
  /** By value name; undefined for a value that was not observed. */
  histogram(value: string): RangeHistogram | undefined;
}
