import type { TextModel, Tensors } from '@flotilla/runtime';
import type { Sample, TextSample } from '../data/data-set.ts';

/**
 * One sample's part in a metric, whose value is `Σ sum / Σ weight`: right rows of all rows, twice the boxes found of the
 * boxes there and found (F1), a loss and its number of tokens. Kept apart per sample so that samples can be drawn anew.
 */
export interface SampleScore {
  readonly sum: number;
  readonly weight: number;
}

interface MetricBase {
  readonly name: string;
  readonly higherIsBetter: boolean;
  /** From `Σ sum / Σ weight` to the figure that is reported; absent: that figure itself. */
  readonly finish?: (mean: number) => number;
}

/** How good a model of tensors is at its task. */
export interface TensorMetric extends MetricBase {
  readonly kind: 'tensor';
  /**
   * @param outputs of the model that is judged
   * @param reference of the fp32 model on the same sample; the same object where that model is judged
   */
  score(outputs: Tensors, sample: Sample, reference: Tensors): SampleScore;
}

/** How good a language model is. */
export interface TextMetric extends MetricBase {
  readonly kind: 'text';
  /** One score a sample, in an order that is the same for every model. */
  judge(
    model: TextModel,
    texts: AsyncIterable<TextSample>,
    options: { readonly signal?: AbortSignal | undefined; readonly progress?: ((done: number) => void) | undefined },
  ): Promise<readonly SampleScore[]>;
}

export type Metric = TensorMetric | TextMetric;

/** NaN where no sample has weight. */
export function metricValue({ finish }: Pick<Metric, 'finish'>, scores: readonly SampleScore[]): number {
  let sum = 0;
  let weight = 0;
  for (const score of scores) {
    sum += score.sum;
    weight += score.weight;
  }
  const mean = sum / weight;
  return finish ? finish(mean) : mean;
}

/** `quantized / fp32`, or its inverse where less is better: 1 is "nothing lost". Both 0: nothing was there to lose. */
export function keptShare(metric: Pick<Metric, 'higherIsBetter'>, quantized: number, fp32: number): number {
  if (quantized === fp32) return 1;
  return metric.higherIsBetter ? quantized / fp32 : fp32 / quantized;
}
