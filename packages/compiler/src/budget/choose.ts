import type { Point } from './measure.ts';
import type { Limit } from './parse-budget.ts';

/**
 * Points that no other beats: none is as small and keeps more, or is smaller and keeps as much, with no greater share of
 * slow products. Smallest first.
 */
export function paretoFront<P extends Point>(points: readonly P[]): readonly P[] {
  const beats = (a: Point, b: Point): boolean =>
    a.bytes <= b.bytes &&
    a.inFloats <= b.inFloats &&
    !isCloser(b, a) &&
    (a.bytes < b.bytes || a.inFloats < b.inFloats || isCloser(a, b));
  return points.filter((b) => !points.some((a) => beats(a, b))).toSorted((a, b) => a.bytes - b.bytes);
}

/**
 * The point that meets every limit and keeps most; the smallest one, where only accuracy is asked for. Where none meets
 * all, the one that misses by least.
 */
export function choosePoint<P extends Point>(
  points: readonly [P, ...P[]],
  limits: readonly Limit[],
): { readonly point: P; readonly met: boolean } {
  const misses = (point: P): number => Math.max(...limits.map((limit) => missBy(point, limit)));
  const meeting = points.filter((point) => misses(point) <= 1);
  const wantsSmall = limits.every(({ key }) => key === 'accuracy');
  const best = (of: readonly P[], better: (a: P, b: P) => boolean): P =>
    of.reduce((found, point) => (better(point, found) ? point : found));
  if (meeting.length === 0) return { point: best(points, (a, b) => misses(a) < misses(b)), met: false };
  const smaller = (a: P, b: P): boolean => a.bytes < b.bytes || (a.bytes === b.bytes && isBetter(a, b));
  const keepsMore = (a: P, b: P): boolean => isBetter(a, b) || (!isBetter(b, a) && a.bytes < b.bytes);
  return { point: best(meeting, wantsSmall ? smaller : keepsMore), met: true };
}

/**
 * Points that are worth another accuracy level: the one that would be taken, and of the smaller ones that keep too little
 * the one that misses by least.
 */
export function levelBases<P extends Point>(points: readonly P[], limits: readonly Limit[]): readonly P[] {
  const [first, ...others] = points;
  if (!first) return [];
  const { point } = choosePoint([first, ...others], limits);
  const accuracy = limits.find(({ key }) => key === 'accuracy');
  const near = points
    .filter((one) => accuracy !== undefined && one.bytes < point.bytes && one.kept < accuracy.value)
    .toSorted((a, b) => b.kept - a.kept)[0];
  return near ? [point, near] : [point];
}

/** Up to 1: met. */
function missBy({ bytes, kept, p50Us }: Point, { key, value }: Limit): number {
  if (key === 'size') return bytes / value;
  if (key === 'latency') return (p50Us ?? Infinity) / value;
  return kept > 0 ? value / kept : Infinity;
}

/**
 * Half a percent of the score is what products that multiply floats must bring, if all of them do: they take about three
 * times as long, and the choice is not to depend on a clock.
 */
const FLOATS_COST = 0.005;

/** Is worth more; of equals, is closer to fp32. */
function isBetter(a: Point, b: Point): boolean {
  const [x, y] = [a, b].map(({ kept, inFloats }) => kept - FLOATS_COST * inFloats) as [number, number];
  return x > y || (x === y && a.noise < b.noise);
}

/** Keeps more of the score; of equals, is closer to fp32. */
function isCloser(a: Point, b: Point): boolean {
  return a.kept > b.kept || (a.kept === b.kept && a.noise < b.noise);
}
