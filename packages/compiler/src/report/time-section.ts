import { figure, fold, key, section, table } from './html.ts';
import { barPlot } from './plots.ts';
import type { NodeTime, ReportData } from './report-data.ts';

const OPERATORS = 12;
const NODES = 15;

/** Where the time went before and goes now, by operator and by node. */
export function timeSection({ times }: ReportData): string {
  if (!times) return '';
  const before = byOperator(times.fp32);
  const after = byOperator(times.quantized);
  const ops = [...new Set([...before.keys(), ...after.keys()])]
    .map((op) => ({ op, fp32: before.get(op) ?? 0, quantized: after.get(op) ?? 0 }))
    .toSorted((a, b) => b.fp32 + b.quantized - a.fp32 - a.quantized);
  const bars = ops.slice(0, OPERATORS).map(({ op, fp32, quantized }) => ({
    label: op,
    values: [
      { value: fp32, colour: 'grey', note: fp32 === 0 ? '–' : micros(fp32) },
      { value: quantized, colour: 'blue', note: quantized === 0 ? '–' : micros(quantized) },
    ],
  }));
  return section(
    'Time by node',
    figure(
      barPlot(bars, 'time by operator'),
      `${key('grey', `fp32, ${micros(sum(times.fp32))} in all`)} ${key('blue', `quantized, ${micros(sum(times.quantized))} in all`)}. Medians of profiled runs on this machine; profiling slows what it watches, and each node's name is ONNX Runtime's after its own rewriting.`,
    ),
    fold('slowest nodes of the quantized model', nodeTable(times.quantized)),
    fold('slowest nodes of fp32', nodeTable(times.fp32)),
  );
}

function nodeTable(times: readonly NodeTime[]): string {
  const total = sum(times) || 1;
  const rows = times
    .slice(0, NODES)
    .map(({ name, op, us }) => [name, op, us.toFixed(0), `${((100 * us) / total).toFixed(1)} %`]);
  return table(['node', 'op', '#µs', '#share'], rows);
}

function byOperator(times: readonly NodeTime[]): Map<string, number> {
  const totals = new Map<string, number>();
  for (const { op, us } of times) totals.set(op, (totals.get(op) ?? 0) + us);
  return totals;
}

function sum(times: readonly NodeTime[]): number {
  return times.reduce((all, { us }) => all + us, 0);
}

function micros(us: number): string {
  return us >= 1000 ? `${(us / 1000).toFixed(2)} ms` : `${us.toFixed(0)} µs`;
}
