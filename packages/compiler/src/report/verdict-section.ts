import type { CompileReport, Verdict } from '../compile/options.ts';
import { bytes, decibels, escape, figure, key, percent, section, short, table } from './html.ts';
import { type Bar, barPlot, intervalPlot } from './plots.ts';
import type { ReportData } from './report-data.ts';

/** The verdict on top, then what it cost and what it brought, then everything that speaks against it. */
export function verdictSections({ report }: ReportData): string {
  const { verdict, objections, warnings } = report;
  const box = verdict
    ? verdictBox(verdict)
    : '<div class="verdict"><b>–</b><div>No verdict: there was no data to judge on.</div></div>';
  const lines = [
    ...objections.map((words) => `<p class="warn bad">${escape(words)}</p>`),
    ...warnings.map((words) => `<p class="warn">${escape(words)}</p>`),
  ];
  return `${box}\n${lines.join('\n')}\n${section('Beside fp32', gains(report), verdict ? verdictTable(verdict) : '')}`;
}

function verdictBox(verdict: Verdict): string {
  const { ok, metric, kept, interval, floor, samples, candidates } = verdict;
  const between = interval ? `, between ${percent(interval[0])} and ${percent(interval[1])} at 95 % confidence` : '';
  const tried = candidates > 1 ? ` ${candidates} candidates were compared first, none of them on these samples.` : '';
  return `<div class="verdict ${ok ? 'yes' : 'no'}"><b>${ok ? 'yes' : 'no'}</b><div>${percent(kept)} of fp32's ${escape(metric)} is kept${between}; the floor is ${percent(floor)}. Judged on ${samples} samples that took no part in anything else.${tried}${intervalPlot(kept, interval, floor)}</div></div>`;
}

function verdictTable(verdict: Verdict): string {
  const { metric, fp32, quantized, kept, splits, sqnrDb, language } = verdict;
  const rows: [string, string, string, string][] = [[metric, short(fp32), short(quantized), percent(kept)]];
  const facts = [
    `samples: ${splits.calibrate ?? 'no'} to calibrate, ${splits.choose ?? 'none'} to choose, ${splits.judge ?? 'none'} to judge`,
    `worst output: ${decibels(sqnrDb)}${sqnrDb === null ? '' : ' dB'} SQNR`,
  ];
  if (language)
    facts.push(
      `next-token distribution: KL divergence ${language.kld.mean.toPrecision(3)} on average, ${language.kld.p99.toPrecision(3)} at the 99th percentile; the same first token at ${language.sameTopPercent.toFixed(1)} % of ${language.tokens} positions`,
    );
  return `${table(['metric', '#fp32', '#quantized', '#kept'], rows)}<p class="soft">${facts.map(escape).join('<br>')}</p>`;
}

/** Each pair has its own scale: the longer bar is the pair's larger value. */
function gains({ model, pack, latency, memory }: CompileReport): string {
  const pair = (label: string, before: number, after: number, show: (value: number) => string): Bar => {
    const most = Math.max(before, after) || 1;
    return {
      label,
      values: [
        { value: before / most, colour: 'grey', note: show(before) },
        { value: after / most, colour: 'blue', note: `${show(after)} (${percent(after / (before || 1))})` },
      ],
    };
  };
  const ms = (us: number): string => `${(us / 1000).toFixed(2)} ms`;
  const bars = [pair('model file', model.bytes, pack.modelBytes, bytes)];
  if (latency)
    bars.push(pair(`median run, ${latency.threads} thread(s)`, latency.fp32.p50Us, latency.quantized.p50Us, ms));
  if (memory)
    bars.push(
      pair('weights in memory', memory.fp32.weightsBytes, memory.quantized.weightsBytes, bytes),
      pair('peak RSS of its process', memory.fp32.peakRssBytes, memory.quantized.peakRssBytes, bytes),
    );
  const cleanup = latency?.cleanup
    ? ` Clean-up alone is ${latency.cleanup.speedup.toFixed(2)} times as fast as fp32, the result ${latency.speedup.toFixed(2)} times.`
    : latency
      ? ` The result is ${latency.speedup.toFixed(2)} times as fast as fp32.`
      : '';
  return figure(
    barPlot(bars, 'size, time and memory'),
    `${key('grey', 'fp32')} ${key('blue', 'quantized')}.${cleanup}`,
  );
}
