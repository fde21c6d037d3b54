import type { DataSet } from '../data/data-set.ts';
import { type Judged, type JudgeOptions, judge } from '../evaluate/judge.ts';
import { keptShare, type Metric } from '../metrics/metric.ts';
import type { Verdict } from './options.ts';

/** Judges the quantized model against fp32 on the same samples in the same run. */
export async function reachVerdict(
  metric: Metric,
  data: DataSet,
  { fp32, quantized, floor }: { readonly fp32: Judged; readonly quantized: Judged; readonly floor: number },
  options: JudgeOptions,
): Promise<Verdict> {
  const { values, samples } = await judge(metric, data, [fp32, quantized], options);
  const [before = Number.NaN, after = Number.NaN] = values;
  const kept = keptShare(metric, after, before);
  return { metric: metric.name, samples, fp32: before, quantized: after, kept, floor, ok: kept >= floor };
}
