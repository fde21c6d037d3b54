import type { DataSet } from '../data/data-set.ts';
import { type Judged, type JudgeOptions, judge } from '../evaluate/judge.ts';
import { languageError } from '../evaluate/language-error.ts';
import { OutputError } from '../evaluate/output-error.ts';
import { keptShare, type Metric } from '../metrics/metric.ts';
import { keptInterval } from '../statistics/interval.ts';
import type { Verdict } from './options.ts';

/** Judges the quantized model against fp32 on the same samples in the same run. */
export async function reachVerdict(
  metric: Metric,
  data: DataSet,
  { fp32, quantized, floor }: { readonly fp32: Judged; readonly quantized: Judged; readonly floor: number },
  options: JudgeOptions,
): Promise<Omit<Verdict, 'candidates' | 'splits'>> {
  const error = new OutputError();
  const { values, scores, samples } = await judge(metric, data, [fp32, quantized], {
    ...options,
    watch: ([reference = {}, outputs = {}]) => error.add(reference, outputs),
  });
  const [before = Number.NaN, after = Number.NaN] = values;
  const kept = keptShare(metric, after, before);
  const language =
    data.kind === 'text' && fp32.text && quantized.text
      ? await languageError([fp32.text, quantized.text], data.texts(), options.signal)
      : null;
  return {
    metric: metric.name,
    samples,
    fp32: before,
    quantized: after,
    kept,
    interval: keptInterval(metric, scores[0] ?? [], scores[1] ?? []),
    floor,
    ok: kept >= floor,
    ...(language ?? { sqnrDb: error.sqnrDb() }),
  };
}
