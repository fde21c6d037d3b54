import type { Interval } from './interval.ts';
import { Z_975 } from './student.ts';

/** Wilson's score interval of a proportion. E. B. Wilson, JASA 22 (1927). */
export function wilson(right: number, count: number, z = Z_975): Interval {
  const middle = 2 * right + z * z;
  const spread = z * Math.sqrt(z * z + 4 * right * (1 - right / count));
  const all = 2 * (count + z * z);
  // Rounding must not lead out of [0, 1].
  return [Math.max(0, (middle - spread) / all), Math.min(1, (middle + spread) / all)];
}

/**
 * Interval of p₁ / p₂ for two proportions counted on the same samples: Wilson intervals of both, narrowed by how much the
 * two agree. D. G. Bonett and R. M. Price, Statistics in Medicine 25 (2006), eq. 6 to 8.
 * @param pairs samples that both get right, that only the first does, that only the second does
 * @returns null where the second gets none right
 */
export function pairedRatio({
  both,
  first,
  second,
}: {
  readonly both: number;
  readonly first: number;
  readonly second: number;
}): Interval | null {
  const [right1, right2, count] = [both + first, both + second, both + first + second];
  if (right2 === 0) return null;
  const of = (right: number): number => Math.sqrt((1 - (right + 1) / (count + 2)) / (right + 1));
  const apart = Math.sqrt((first + second + 2) / ((right1 + 1) * (right2 + 1)));
  const z = (Z_975 * apart) / (of(right1) + of(right2));
  const [low1, high1] = wilson(right1, count, z);
  const [low2, high2] = wilson(right2, count, z);
  return [low1 / high2, high1 / low2];
}
