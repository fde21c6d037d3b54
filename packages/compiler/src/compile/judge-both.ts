import type { Judged } from '../evaluate/judge.ts';
import { chooseMetric } from '../metrics/choose.ts';
import { readKeys } from '../metrics/ctc-text.ts';
import type { Splits } from '../splits/split-data.ts';
import type { CompileOptions, CompileReport, Verdict } from './options.ts';
import { percent } from './say.ts';
import { reachVerdict } from './verdict.ts';

/** The verdict on the judging split: null where nothing is left in it. */
export async function judgeBoth(
  { splits, fp32, candidates }: { readonly splits: Splits; readonly fp32: Judged; readonly candidates: number },
  quantized: Judged,
  options: CompileOptions,
): Promise<Pick<CompileReport, 'verdict' | 'warnings'>> {
  const { judge, sizes } = splits;
  if (!judge) return { verdict: null, warnings: [] };
  const keys = options.keys === undefined ? undefined : await readKeys(options.keys);
  const { floor = 0.98, signal, onProgress } = options;
  const progress = (done: number, total: number | undefined): void => onProgress?.({ step: 'evaluate', done, total });
  if (!(await judge.holdsAny())) {
    const warning = `all ${judge.leftOut} samples to judge on were calibrated on: nothing is left to judge`;
    return { verdict: null, warnings: [warning] };
  }
  const metric = await chooseMetric(options.metric, judge.data, keys);
  const found = await reachVerdict(metric, judge.data, { fp32, quantized, floor }, { signal, progress });
  const left = judge.leftOut;
  const splitSizes = { ...sizes, judge: sizes.judge === null ? found.samples : sizes.judge - left };
  const verdict: Verdict = { ...found, candidates, splits: splitSizes };
  const warnings = left === 0 ? [] : [`${left} samples to judge on were calibrated on: they were left out`];
  return { verdict, warnings: [...warnings, ...unsure(verdict)] };
}

/** A verdict that a few samples more could turn says so. */
function unsure({ ok, interval, floor, samples }: Verdict): readonly string[] {
  if (!ok || floor === 0) return [];
  if (interval === null) return [`${samples} samples cannot tell whether ${percent(floor)} are kept; judge on more`];
  if (interval[0] >= floor) return [];
  return [
    `${samples} samples leave it open whether ${percent(floor)} are kept: it may be ${percent(interval[0])}; judge on more`,
  ];
}
