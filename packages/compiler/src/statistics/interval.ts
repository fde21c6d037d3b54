import { keptShare, type Metric, metricValue, type SampleScore } from '../metrics/metric.ts';
import { bootstrap } from './bootstrap.ts';
import { pairedRatio, wilson } from './proportions.ts';

/** Where the true figure lies, at 95 % confidence. */
export type Interval = readonly [low: number, high: number];

/**
 * Of what is kept, from the same samples judged by both models. Right-or-wrong samples: the Bonett–Price interval of a
 * ratio of paired proportions, which is honest at 100 % too; other scores: a paired bootstrap, samples drawn with both
 * of their scores. Deterministic. Null where nothing can be said: fewer than two samples, or nothing that fp32 got right.
 */
export function keptInterval(
  metric: Pick<Metric, 'higherIsBetter' | 'finish'>,
  fp32: readonly SampleScore[],
  quantized: readonly SampleScore[],
): Interval | null {
  if (fp32.length < 2 || fp32.length !== quantized.length) return null;
  if (metric.higherIsBetter && metric.finish === undefined && isRightOrWrong(fp32) && isRightOrWrong(quantized)) {
    const both = fp32.filter(({ sum }, i) => sum === 1 && quantized[i]?.sum === 1).length;
    return pairedRatio({ both, first: countRight(quantized) - both, second: countRight(fp32) - both });
  }
  const value = (scores: readonly SampleScore[], draw: readonly number[]): number =>
    metricValue(
      metric,
      draw.map((i) => scores[i] as SampleScore),
    );
  return bootstrap(fp32.length, (draw) => keptShare(metric, value(quantized, draw), value(fp32, draw)));
}

/** Of one model's value: Wilson's interval for right-or-wrong samples, else a bootstrap. Null below two samples. */
export function valueInterval(metric: Pick<Metric, 'finish'>, scores: readonly SampleScore[]): Interval | null {
  if (scores.length < 2) return null;
  if (metric.finish === undefined && isRightOrWrong(scores)) return wilson(countRight(scores), scores.length);
  return bootstrap(scores.length, (draw) =>
    metricValue(
      metric,
      draw.map((i) => scores[i] as SampleScore),
    ),
  );
}

function isRightOrWrong(scores: readonly SampleScore[]): boolean {
  return scores.every(({ sum, weight }) => weight === 1 && (sum === 0 || sum === 1));
}

function countRight(scores: readonly SampleScore[]): number {
  return scores.reduce((right, { sum }) => right + sum, 0);
}
