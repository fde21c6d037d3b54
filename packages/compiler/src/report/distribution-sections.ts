import type { Outlier } from '../analyze/far-values.ts';
import { bytes, decibels, escape, fold, key, section, short, table } from './html.ts';
import { histogramPlot } from './plots.ts';
import type { ActivationPicture, ReportData, WeightPicture } from './report-data.ts';

const DRAWN = 24;
/** More would make a page that no browser likes; the JSON of `inspect` has them all. */
const FOLDED = 96;
const NAMED = 16;

/** Histograms of activations with the chosen range, of weights, and the outliers by name. */
export function distributionSections(data: ReportData): string {
  const { activations, weights, samples, observedOn } = data;
  const ranged = activations.filter(({ range }) => range !== null);
  const shown = (ranged.length > 0 ? ranged : activations).toSorted(
    (a, b) => (a.sqnrDb.int8Clipped ?? 999) - (b.sqnrDb.int8Clipped ?? 999),
  );
  const heaviest = weights.toSorted(
    (a, b) => (a.sqnrDb.int4 ?? a.sqnrDb.int8 ?? 999) - (b.sqnrDb.int4 ?? b.sqnrDb.int8 ?? 999),
  );
  const legend = `${key('blue', 'inside the range')} ${key('red', 'cut off')} ${key('amber', 'the range that the integers cover')}. A cut at 0, or where a hard-swish closes, is that activation, carried out by saturation. Counts on a square-root scale, so that tails show.`;
  return [
    section(
      'Activations',
      shown.length === 0
        ? ''
        : `<p>Over ${samples} samples of ${escape(observedOn)}; those first that integers hold worst. ${ranged.length > 0 ? legend : 'No activation is quantized.'}</p>`,
      grid(shown.slice(0, DRAWN).map(activationFigure)),
      more(shown, activationFigure),
    ),
    section(
      'Weights',
      weights.length === 0
        ? ''
        : `<p>Those first that 4 bits would hold worst. Signal to error in dB if each were only rounded: per channel in int8, in blocks of 32 in int4.${foretold(data)}</p>`,
      grid(heaviest.slice(0, DRAWN).map(weightFigure)),
      more(heaviest, weightFigure),
    ),
    section('Outliers', outlierTable([...weights, ...activations])),
  ].join('');
}

function foretold({ report: { analysis }, sampledBytes }: ReportData): string {
  const all = (analysis?.foretold ?? []).map(
    ({ format, medianDb, worstDb, worst }) =>
      ` ${format}: ${decibels(medianDb)} dB in the median, ${decibels(worstDb)} dB at worst (${escape(worst)}).`,
  );
  const sampled = ` Of ${bytes(sampledBytes)} of them the first rows only were looked at.`;
  return `${all.join('')}${sampledBytes > 0 ? sampled : ''}`;
}

function grid(figures: readonly string[]): string {
  return figures.length === 0 ? '' : `<div class="grid">\n${figures.join('\n')}\n</div>`;
}

function more<T>(all: readonly T[], draw: (one: T) => string): string {
  const rest = all.slice(DRAWN, DRAWN + FOLDED);
  const left = all.length - DRAWN - rest.length;
  const title = `${rest.length} more${left > 0 ? ` (${left} are left out)` : ''}`;
  return rest.length === 0 ? '' : fold(title, grid(rest.map(draw)));
}

function activationFigure(a: ActivationPicture): string {
  const range = a.range ? `range ${short(a.range.min)} … ${short(a.range.max)}` : `${short(a.min)} … ${short(a.max)}`;
  const words = `<b>${escape(a.name)}</b><br>${escape(a.op)}, ${range}, kurtosis ${short(a.kurtosis ?? 0)}, min-max ${decibels(a.sqnrDb.int8)} dB`;
  return `<figure>${histogramPlot({ ...a, range: a.range ?? undefined })}<figcaption>${words}</figcaption></figure>`;
}

function weightFigure(w: WeightPicture): string {
  const losses = `int8 ${decibels(w.sqnrDb.int8)} dB, int4 ${w.sqnrDb.int4 === null ? '–' : `${decibels(w.sqnrDb.int4)} dB`}`;
  const words = `<b>${escape(w.node || w.name)}</b><br>${w.shape.join('×')}, kurtosis ${short(w.kurtosis ?? 0)}, ${losses}`;
  return `<figure>${histogramPlot(w)}<figcaption>${words}</figcaption></figure>`;
}

function outlierTable(
  tensors: readonly { readonly name: string; readonly node: string; readonly farthest: readonly Outlier[] }[],
): string {
  const all = tensors
    .flatMap(({ name, node, farthest }) => farthest.map((outlier) => ({ name, node, outlier })))
    .toSorted((a, b) => b.outlier.sigmas - a.outlier.sigmas)
    .slice(0, NAMED);
  if (all.length === 0) return '';
  const rows = all.map(({ name, node, outlier: { at, channel, sample, value, sigmas } }) => [
    name,
    node,
    channel ?? '–',
    `[${at.join(', ')}]${sample === null ? '' : ` of sample ${sample}`}`,
    short(value),
    `${sigmas.toFixed(0)} σ`,
  ]);
  return table(['tensor', 'node', '#channel', 'at', '#value', '#from the mean'], rows);
}
