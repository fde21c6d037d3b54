/**
 * Mean and central moments of any number of values, merged sample by sample without cancellation.
 * @see Pébay, "Formulas for robust, one-pass parallel computation of covariances and arbitrary-order statistical
 * moments" (Sandia 2008), equations 1.5, 1.6 and 2.1
 */
export class Moments {
  count = 0;
  mean = 0;
  private m2 = 0;
  private m3 = 0;
  private m4 = 0;

  /** Values that are not finite are left out. */
  observe(values: Float32Array): void {
    const part = momentsOf(values);
    if (part.count === 0) return;
    const n = this.count + part.count;
    const [a, b] = [this.count, part.count];
    const d = part.mean - this.mean;
    const { m2, m3 } = this;
    this.m4 +=
      part.m4 +
      (d ** 4 * a * b * (a * a - a * b + b * b)) / n ** 3 +
      (6 * d * d * (a * a * part.m2 + b * b * m2)) / n ** 2 +
      (4 * d * (a * part.m3 - b * m3)) / n;
    this.m3 += part.m3 + (d ** 3 * a * b * (a - b)) / n ** 2 + (3 * d * (a * part.m2 - b * m2)) / n;
    this.m2 += part.m2 + (d * d * a * b) / n;
    this.mean += (d * b) / n;
    this.count = n;
  }

  /** Of the population: divided by the count. */
  get std(): number {
    return this.count === 0 ? 0 : Math.sqrt(Math.max(0, this.m2) / this.count);
  }

  /** 0 for what is symmetric; null where all values are one. */
  get skewness(): number | null {
    return this.m2 > 0 ? (Math.sqrt(this.count) * this.m3) / this.m2 ** 1.5 : null;
  }

  /** 3 for a normal distribution, more for heavy tails; null where all values are one. */
  get kurtosis(): number | null {
    return this.m2 > 0 ? (this.count * this.m4) / (this.m2 * this.m2) : null;
  }

  /** Σx². */
  get energy(): number {
    return this.m2 + this.count * this.mean * this.mean;
  }
}

function momentsOf(values: Float32Array): { count: number; mean: number; m2: number; m3: number; m4: number } {
  let count = 0;
  let sum = 0;
  for (const value of values) {
    if (!Number.isFinite(value)) continue;
    sum += value;
    count++;
  }
  const mean = count === 0 ? 0 : sum / count;
  let [m2, m3, m4] = [0, 0, 0];
  for (const value of values) {
    if (!Number.isFinite(value)) continue;
    const d = value - mean;
    const square = d * d;
    m2 += square;
    m3 += square * d;
    m4 += square * square;
  }
  return { count, mean, m2, m3, m4 };
}
