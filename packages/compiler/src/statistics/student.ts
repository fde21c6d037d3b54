/** The normal distribution's 97.5 % quantile. */
export const Z_975 = 1.959964;

/**
 * Student's 97.5 % quantile by the Cornish–Fisher expansion about the normal one: within 0.3 % from 4 degrees of freedom,
 * 3 % at 2. Abramowitz and Stegun 26.7.5.
 */
export function studentT975(degrees: number): number {
  const z = Z_975;
  return (
    z +
    (z ** 3 + z) / (4 * degrees) +
    (5 * z ** 5 + 16 * z ** 3 + 3 * z) / (96 * degrees ** 2) +
    (3 * z ** 7 + 19 * z ** 5 + 17 * z ** 3 - 15 * z) / (384 * degrees ** 3)
  );
}

/** Probability that a normal variable is below −z, for z ≥ 0; to 7e-8. Abramowitz and Stegun 26.2.17. */
export function normalTail(z: number): number {
  const t = 1 / (1 + 0.2316419 * z);
  const series = [0.31938153, -0.356563782, 1.781477937, -1.821255978, 1.330274429];
  const polynomial = series.reduce((sum, factor, power) => sum + factor * t ** (power + 1), 0);
  return (Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI)) * polynomial;
}
