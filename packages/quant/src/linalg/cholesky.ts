/**
 * The upper triangle U with `UᵀU = A⁻¹`, of a symmetric positive definite A; what GPTQ walks along.
 * With J the exchange of first and last, `JAJ = LLᵀ` gives `A = (JLJ)(JLJ)ᵀ` with JLJ upper, so `U = (JLJ)⁻¹`.
 * @param a row-major `[n, n]`, float64
 * @returns row-major `[n, n]`, zeros below the diagonal; undefined where A is not positive definite
 */
export function inverseCholesky(a: Float64Array, n: number): Float64Array | undefined {
  const flipped = new Float64Array(n * n);
  for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) flipped[i * n + j] = a[(n - 1 - i) * n + (n - 1 - j)];
  const lower = cholesky(flipped, n);
  if (!lower) return undefined;
  const inverse = invertLower(lower, n);
  for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) flipped[i * n + j] = inverse[(n - 1 - i) * n + (n - 1 - j)];
  return flipped;
}

/** `A = LLᵀ`, row by row (Cholesky–Banachiewicz), four sums at a time: each alone would wait for its own additions. */
function cholesky(a: Float64Array, n: number): Float64Array | undefined {
  const l = new Float64Array(n * n);
  const sums = new Float64Array(4);
  for (let i = 0; i < n; i++) {
    const row = i * n;
    for (let j = 0; j <= i; j += 4) {
      const width = Math.min(4, i + 1 - j);
      if (width === 4) subtractProducts(sums, { a, l, row, j, n });
      else for (let w = 0; w < width; w++) sums[w] = lessProducts(a[row + j + w], l, row, (j + w) * n, j);
      for (let w = 0; w < width; w++) {
        const at = j + w;
        let sum = sums[w];
        for (let k = j; k < at; k++) sum -= l[row + k] * l[at * n + k];
        if (i > at) l[row + at] = sum / l[at * n + at];
        else if (sum > 0) l[row + at] = Math.sqrt(sum);
        else return undefined;
      }
    }
  }
  return l;
}

interface Four {
  readonly a: Float64Array;
  readonly l: Float64Array;
  readonly row: number;
  readonly j: number;
  readonly n: number;
}

/** Four neighbours in a row of A, less the products with four rows of L before column `j`. */
function subtractProducts(sums: Float64Array, { a, l, row, j, n }: Four): void {
  let [s0, s1, s2, s3] = [a[row + j], a[row + j + 1], a[row + j + 2], a[row + j + 3]];
  const [r0, r1, r2, r3] = [j * n, (j + 1) * n, (j + 2) * n, (j + 3) * n];
  for (let k = 0; k < j; k++) {
    const own = l[row + k];
    s0 -= own * l[r0 + k];
    s1 -= own * l[r1 + k];
    s2 -= own * l[r2 + k];
    s3 -= own * l[r3 + k];
  }
  sums.set([s0, s1, s2, s3]);
}

function lessProducts(value: number, l: Float64Array, row: number, other: number, count: number): number {
  let sum = value;
  for (let k = 0; k < count; k++) sum -= l[row + k] * l[other + k];
  return sum;
}

/** `L⁻¹` by forward substitution, row by row, four rows taken off at a time. */
function invertLower(l: Float64Array, n: number): Float64Array {
  const inverse = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    const row = i * n;
    const pivot = l[row + i];
    inverse[row + i] = 1 / pivot;
    let k = 0;
    for (; k + 4 <= i; k += 4) {
      const [f0, f1, f2, f3] = [
        l[row + k] / pivot,
        l[row + k + 1] / pivot,
        l[row + k + 2] / pivot,
        l[row + k + 3] / pivot,
      ];
      const [r0, r1, r2, r3] = [k * n, (k + 1) * n, (k + 2) * n, (k + 3) * n];
      // Above its diagonal a row is 0, so the longest of the four will do for all.
      for (let j = 0; j <= k + 3; j++) {
        let value = inverse[row + j] - f0 * inverse[r0 + j];
        value -= f1 * inverse[r1 + j];
        value -= f2 * inverse[r2 + j];
        inverse[row + j] = value - f3 * inverse[r3 + j];
      }
    }
    for (; k < i; k++) {
      const factor = l[row + k] / pivot;
      for (let j = 0; j <= k; j++) inverse[row + j] -= factor * inverse[k * n + j];
    }
  }
  return inverse;
}
