import type { TextModel, Tensors } from '@flotilla/runtime';
import type { Sample, TextSample } from '../data/data-set.ts';

/** Adds up one model's answers. */
export interface Score {
  /**
   * @param outputs of the model that is judged
   * @param reference of the fp32 model on the same sample; the same object where that model is judged
   */
  add(outputs: Tensors, sample: Sample, reference: Tensors): void;
  /** NaN before the first sample. */
  value(): number;
}

/** How good a model of tensors is at its task. */
export interface TensorMetric {
  readonly kind: 'tensor';
  readonly name: string;
  readonly higherIsBetter: boolean;
  start(): Score;
}

/** How good a language model is. */
export interface TextMetric {
  readonly kind: 'text';
  readonly name: string;
  readonly higherIsBetter: boolean;
  judge(
    model: TextModel,
    texts: AsyncIterable<TextSample>,
    options: { readonly signal?: AbortSignal | undefined; readonly progress?: ((done: number) => void) | undefined },
  ): Promise<{ readonly value: number; readonly samples: number }>;
}

export type Metric = TensorMetric | TextMetric;

/** `quantized / fp32`, or its inverse where less is better: 1 is "nothing lost". Both 0: nothing was there to lose. */
export function keptShare(metric: Pick<Metric, 'higherIsBetter'>, quantized: number, fp32: number): number {
  if (quantized === fp32) return 1;
  return metric.higherIsBetter ? quantized / fp32 : fp32 / quantized;
}
