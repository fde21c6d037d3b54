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

/** `A = LLᵀ`, row by row (Cholesky–Banachiewicz). */
function cholesky(a: Float64Array, n: number): Float64Array | undefined {
  const l = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = a[i * n + j];
      for (let k = 0; k < j; k++) sum -= l[i * n + k] * l[j * n + k];
      if (i > j) l[i * n + j] = sum / l[j * n + j];
      else if (sum > 0) l[i * n + i] = Math.sqrt(sum);
      else return undefined;
    }
  }
  return l;
}

/** `L⁻¹` by forward substitution, row by row. */
function invertLower(l: Float64Array, n: number): Float64Array {
  const inverse = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    const pivot = l[i * n + i];
    inverse[i * n + i] = 1 / pivot;
    for (let k = 0; k < i; k++) {
      const factor = l[i * n + k] / pivot;
      for (let j = 0; j <= k; j++) inverse[i * n + j] -= factor * inverse[k * n + j];
    }
  }
  return inverse;
}
