/** The largest singular values and their vectors. */
export interface Svd {
  /** Row-major `[rows, rank]`, orthonormal columns. */
  readonly u: Float64Array;
  /** Falling, `[rank]`. */
  readonly s: Float64Array;
  /** Row-major `[rank, cols]`, orthonormal rows. */
  readonly vt: Float64Array;
}

/** Columns this parallel count as orthogonal: what float64 can tell. */
const PARALLEL = 1e-15;
const SWEEPS = 60;

/**
 * Singular value decomposition by one-sided Jacobi rotations, the largest `rank` values kept. Accurate for small singular
 * values too; its cost grows with `max · min²` a sweep, and about ten sweeps do.
 * @param matrix row-major `[rows, cols]`
 * @see Golub & Van Loan, Matrix Computations, §8.6.3 (Hestenes)
 */
export function svd(matrix: ArrayLike<number>, rows: number, cols: number, rank: number): Svd {
  const wide = rows < cols;
  const [n, length] = wide ? [rows, cols] : [cols, rows];
  // Vectors to be made orthogonal, one after another in memory: the shorter side's rows or columns.
  const vectors = Array.from({ length: n }, (_, j) =>
    Float64Array.from({ length }, (_, i) => (wide ? matrix[j * cols + i] : matrix[i * cols + j])),
  );
  const turns = Array.from({ length: n }, (_, j) => Float64Array.from({ length: n }, (_, i) => (i === j ? 1 : 0)));
  for (let sweep = 0; sweep < SWEEPS && rotateAll(vectors, turns); sweep++);
  return collect(vectors, turns, { wide, n, length, rank: Math.min(rank, n) });
}

/** One sweep over all pairs; true while something had to turn. */
function rotateAll(vectors: readonly Float64Array[], turns: readonly Float64Array[]): boolean {
  let turned = false;
  for (let p = 0; p < vectors.length - 1; p++) {
    for (let q = p + 1; q < vectors.length; q++) {
      const [alpha, beta, gamma] = products(vectors[p], vectors[q]);
      if (Math.abs(gamma) <= PARALLEL * Math.sqrt(alpha * beta) || gamma === 0) continue;
      turned = true;
      const zeta = (beta - alpha) / (2 * gamma);
      const tangent = (zeta < 0 ? -1 : 1) / (Math.abs(zeta) + Math.sqrt(1 + zeta * zeta));
      const cosine = 1 / Math.sqrt(1 + tangent * tangent);
      rotate(vectors[p], vectors[q], cosine, cosine * tangent);
      rotate(turns[p], turns[q], cosine, cosine * tangent);
    }
  }
  return turned;
}

function products(a: Float64Array, b: Float64Array): [number, number, number] {
  let [aa, bb, ab] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    aa += a[i] * a[i];
    bb += b[i] * b[i];
    ab += a[i] * b[i];
  }
  return [aa, bb, ab];
}

function rotate(a: Float64Array, b: Float64Array, cosine: number, sine: number): void {
  for (let i = 0; i < a.length; i++) {
    const x = a[i];
    a[i] = cosine * x - sine * b[i];
    b[i] = sine * x + cosine * b[i];
  }
}

/** Long vectors divided by their lengths are one side's singular vectors, the turns the other's. */
function collect(
  vectors: readonly Float64Array[],
  turns: readonly Float64Array[],
  {
    wide,
    n,
    length,
    rank,
  }: { readonly wide: boolean; readonly n: number; readonly length: number; readonly rank: number },
): Svd {
  const lengths = vectors.map((vector) => Math.sqrt(products(vector, vector)[0]));
  const order = [...lengths.keys()].toSorted((a, b) => lengths[b] - lengths[a]).slice(0, rank);
  const s = Float64Array.from(order, (j) => lengths[j]);
  const long = order.map((j) => vectors[j].map((value) => (lengths[j] > 0 ? value / lengths[j] : 0)));
  const short = order.map((j) => turns[j]);
  const [left, right] = wide ? [short, long] : [long, short];
  const rows = wide ? n : length;
  const u = Float64Array.from({ length: rows * rank }, (_, at) => left[at % rank][Math.floor(at / rank)]);
  const vt = new Float64Array(rank * (wide ? length : n));
  for (const [r, vector] of right.entries()) vt.set(vector, r * vector.length);
  return { u, s, vt };
}
