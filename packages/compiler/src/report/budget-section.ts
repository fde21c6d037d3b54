import { bytes, escape, figure, fold, key, percent, section, table } from './html.ts';
import { frontPlot } from './plots.ts';
import type { ReportData } from './report-data.ts';

/** The search for a budget: what was tried, the Pareto front, the point that was taken and why, and what steered it. */
export function budgetSection({ report: { budget } }: ReportData): string {
  if (!budget) return '';
  const { points, front, chosen, why, samples, sensitivities } = budget;
  const onFront = new Set(front);
  const plot = frontPlot(
    points.map((point) => ({
      x: point.bytes / 1e6,
      y: 100 * point.kept,
      label: `${point.name}: ${percent(point.kept)} kept in ${bytes(point.bytes)}`,
      onFront: onFront.has(point.name),
      chosen: point.name === chosen,
    })),
    { x: 'MB', y: '% kept' },
  );
  const rows = points
    .toSorted((a, b) => a.bytes - b.bytes)
    .map((point) => [
      point.name,
      bytes(point.bytes),
      percent(point.kept),
      point.noise.toPrecision(3),
      point.inFloats === 0 ? '–' : percent(point.inFloats),
      point.p50Us === null ? '–' : `${(point.p50Us / 1000).toFixed(2)} ms`,
      `${onFront.has(point.name) ? 'front' : ''}${point.name === chosen ? ', chosen' : ''}`.replace(/^, /, ''),
    ]);
  const formats = [...new Set(sensitivities.flatMap((unit) => unit.formats.map(({ format }) => format)))];
  const noise = sensitivities.map(({ nodes, formats: all, levelGain }) => [
    nodes.join(', '),
    ...formats.map((format) => all.find((one) => one.format === format)?.noise.toPrecision(3) ?? '–'),
    levelGain === 0 ? '–' : `−${levelGain.toPrecision(3)}`,
  ]);
  return section(
    'Budget: size against accuracy',
    `<p>${escape(why)}.</p><p class="soft">${points.length} candidates on ${samples ?? 'the'} samples of the choosing split; these figures flatter, and the verdict above does not rest on them.</p>`,
    figure(plot, `${key('green', 'chosen')} ${key('blue', 'Pareto front')} ${key('grey', 'beaten by another')}`),
    fold(
      'all candidates',
      table(['candidate', '#size', '#kept', '#noise', '#accuracy_level 1', '#median run', ''], rows),
    ),
    fold(
      'sensitivity by node',
      table(['nodes', ...formats.map((format) => `#${format}`), '#float activations'], noise),
    ),
  );
}
