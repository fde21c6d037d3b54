import { QuantError } from '../errors.ts';

/**
 * A random orthogonal matrix that is quick to apply: seeded signs, then a Hadamard transform over the power of two in the
 * length and an orthonormal cosine transform over what is left (768 = 256 · 3). It spreads what stands out in one channel
 * over all of them, so that blocks of weights and activations have no outliers left to stretch their grids.
 * @see Ashkboos et al. 2024, QuaRot, §3; Chee et al. 2023, QuIP, on why signs are drawn at random
 */
export class Rotation {
  readonly length: number;
  private readonly signs: Int8Array;
  /** The power of two that divides the length, and the rest. */
  private readonly power: number;
  private readonly cosines: Float64Array;

  /** @throws {QuantError} `quant/shape` for a length whose odd part is above 1,024: too slow to be quick */
  constructor(length: number, seed: number) {
    if (!Number.isInteger(length) || length < 1) throw new QuantError('quant/shape', `rotation of ${length} channels`);
    let power = 1;
    while (length % (power * 2) === 0) power *= 2;
    const odd = length / power;
    if (odd > 1024) throw new QuantError('quant/shape', `${length} channels have no power of two to speak of`);
    this.length = length;
    this.power = power;
    this.signs = randomSigns(length, seed);
    this.cosines = Float64Array.from(
      { length: odd * odd },
      (_, i) => cosine(Math.floor(i / odd), i % odd, odd) / Math.sqrt(odd),
    );
  }

  /** Multiplies a vector by the matrix, in place. */
  apply(v: Float64Array): void {
    const { length, power, signs } = this;
    for (let i = 0; i < length; i++) v[i] *= signs[i];
    for (let half = 1; half < power; half *= 2) {
      for (let start = 0; start < length; start += 2 * half) {
        for (let i = start; i < start + half; i++) {
          const [a, b] = [v[i], v[i + half]];
          v[i] = a + b;
          v[i + half] = a - b;
        }
      }
    }
    const shrink = 1 / Math.sqrt(power);
    for (let i = 0; i < length; i++) v[i] *= shrink;
    if (length > power) this.mixParts(v);
  }

  /** The cosine transform across the parts that the Hadamard transform left apart. */
  private mixParts(v: Float64Array): void {
    const { power, cosines } = this;
    const odd = this.length / power;
    const part = new Float64Array(odd);
    for (let i = 0; i < power; i++) {
      part.fill(0);
      for (let row = 0; row < odd; row++)
        for (let k = 0; k < odd; k++) part[row] += cosines[row * odd + k] * v[k * power + i];
      for (let k = 0; k < odd; k++) v[k * power + i] = part[k];
    }
  }
}

/** DCT-II: rows of length 1 after division by √n. */
function cosine(row: number, k: number, n: number): number {
  return row === 0 ? 1 : Math.SQRT2 * Math.cos((Math.PI * (2 * k + 1) * row) / (2 * n));
}

/** The top bits of a linear congruential generator. */
function randomSigns(length: number, seed: number): Int8Array {
  let state = seed >>> 0;
  return Int8Array.from({ length }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state >>> 31 === 0 ? 1 : -1;
  });
}
