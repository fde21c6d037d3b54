import { percent } from '../compile/say.ts';
import type { Point } from './measure.ts';
import type { Limit } from './parse-budget.ts';

/** What a search for a budget found. All figures are of the choosing split: they flatter, and do not judge. */
export interface BudgetReport {
  readonly limits: readonly Limit[];
  /** Whether the chosen point meets them all, on the choosing split. */
  readonly met: boolean;
  readonly candidates: number;
  /** Samples that they were compared on; null where only reading tells. */
  readonly samples: number | null;
  /** Noise of the outputs with only these nodes in the format: see `Point.noise`. */
  readonly sensitivities: readonly {
    readonly nodes: readonly string[];
    readonly formats: readonly { readonly format: string; readonly noise: number }[];
    /** What the noise in int4 by 32 falls by with float activations: `accuracy_level` 1 instead of 4. */
    readonly levelGain: number;
  }[];
  /** Every candidate, in the order in which they were tried. */
  readonly points: readonly Point[];
  /** Names of the points that no other beats in bytes and score; smallest first. */
  readonly front: readonly string[];
  readonly chosen: string;
  readonly why: string;
}

/** The choice in a sentence. */
export function explain(
  point: Point,
  {
    points,
    limits,
    met,
  }: { readonly points: readonly Point[]; readonly limits: readonly Limit[]; readonly met: boolean },
): string {
  const wanted = limits.map(say).join(' and ');
  const smallest = limits.every(({ key }) => key === 'accuracy');
  const claim = met
    ? `of ${points.length} candidates the ${smallest ? 'smallest' : 'best'} one ${wanted}`
    : `none of ${points.length} candidates is ${wanted}; this one misses by least`;
  const singles = points.filter(({ single, bytes, name }) => single && bytes <= point.bytes && name !== point.name);
  const rival = singles.toSorted((a, b) => b.kept - a.kept || a.noise - b.noise)[0];
  const beside = rival ? `; the best single format no larger is ${rival.name}: ${figures(rival)}` : '';
  return `${point.name} (${figures(point)}): ${claim}${beside}${explainLevels(point, points)}`;
}

/** What the other accuracy levels of the chosen point came to, or what its own are good for. */
function explainLevels(point: Point, points: readonly Point[]): string {
  const base = points.find(({ name }) => name === point.levelsOf);
  if (base) return `; with 8-bit activations throughout (accuracy_level 4) ${cameTo(base)}`;
  const [variant] = points.filter(({ levelsOf }) => levelsOf === point.name).toSorted((a, b) => b.kept - a.kept);
  if (!variant) return '';
  return `; with float activations (accuracy_level 1) in ${percent(variant.inFloats)} of its 4-bit products ${cameTo(variant)}`;
}

function cameTo({ kept, noise, p50Us }: Point): string {
  return `${percent(kept)}, noise ${noise.toPrecision(3)}${p50Us === null ? '' : `, ${(p50Us / 1000).toFixed(2)} ms`}`;
}

function figures({ bytes, kept, p50Us }: Point): string {
  const time = p50Us === null ? '' : `, ${(p50Us / 1000).toFixed(2)} ms`;
  return `${percent(kept)} kept in ${(bytes / 1e6).toFixed(2)} MB${time}`;
}

function say({ key, value }: Limit): string {
  if (key === 'size') return `within ${(value / 1e6).toFixed(2)} MB`;
  if (key === 'latency') return `within ${(value / 1000).toFixed(2)} ms`;
  return `that keeps ${percent(value)}`;
}
