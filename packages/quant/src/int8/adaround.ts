import { QuantError } from '../errors.ts';

export interface AdaroundOptions {
  /** Largest |q|. Default 127. */
  readonly most?: number | undefined;
  /** Largest |qₐ + q_b| of neighbours (see `pairSafeScale`); none by default. */
  readonly pairMost?: number | undefined;
  /** Elements of a kernel, for `pairMost`: rows are `[depth / kernel, kernel]`, and image kernels pack them turned. Default 1. */
  readonly kernel?: number | undefined;
  /** Added to the diagonal, as a share of its mean. Default 0.01. */
  readonly damping?: number | undefined;
  /** Passes over a row's weights; ends sooner where none moves. Default 20. */
  readonly sweeps?: number | undefined;
}

/**
 * Adaptive rounding: of each row, weights go up or down by a step as long as that lowers the error of the *product* on
 * calibration data, `ΔwᵀE[x·xᵀ]Δw`. The paper relaxes this binary problem and descends for 10,000 steps a layer; here the
 * problem itself is searched, weight by weight, from the integers given: a move's effect is known from `E[x·xᵀ]Δw`, which is
 * kept up to date, so a whole row costs a few times `depth²`, and the error never grows.
 * @param q int8 `[rows, depth]`, where the search begins: rounded to nearest, or better; not changed
 * @param w `[rows, depth]`
 * @param scale `[rows]`
 * @param gram `[depth, depth]`, Σ x·xᵀ over the inputs of the layer; not changed
 * @returns int8 `[rows, depth]`
 * @throws {QuantError} `quant/shape`; `quant/not-finite` where `gram` is not
 * @see Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization" (2020), eq. 20
 */
export function adaround(
  q: Int8Array,
  w: Float32Array,
  scale: Float32Array,
  gram: Float64Array,
  options: AdaroundOptions = {},
): Int8Array {
  const { most = 127, pairMost, damping = 0.01, sweeps = 20, kernel = 1 } = options;
  const rows = scale.length;
  const depth = w.length / rows;
  if (gram.length !== depth * depth || q.length !== w.length)
    throw new QuantError('quant/shape', `a Gram matrix of ${gram.length} and ${q.length} integers for ${depth} inputs`);
  const damped = withDamping(gram, depth, damping);
  const limits = { most, pairMost: pairMost ?? 2 * most, pairs: neighbours(depth, kernel) };
  const result = q.slice();
  const pull = new Float64Array(depth);
  for (let row = 0; row < rows; row++) {
    const own = result.subarray(row * depth, (row + 1) * depth);
    pull.fill(0);
    for (let k = 0; k < depth; k++) addRow(pull, damped, k, w[row * depth + k] / scale[row] - own[k]);
    for (let sweep = 0; sweep < sweeps; sweep++) if (!improve(own, pull, damped, limits)) break;
  }
  return result;
}

/** One pass over a row. `pull` is `G·e`, with e what the integers lack: a step d changes the error by `d²·Gₖₖ − 2d·pullₖ`. */
function improve(q: Int8Array, pull: Float64Array, gram: Float64Array, { most, pairMost, pairs }: Limits): boolean {
  const depth = q.length;
  let moved = false;
  for (let k = 0; k < depth; k++) {
    const step = pull[k] > 0 ? 1 : -1;
    // A little is asked of it, so that rounding in the sums cannot send a weight to and fro.
    if (2 * Math.abs(pull[k]) <= gram[k * depth + k] * 1.000001) continue;
    const next = q[k] + step;
    if (Math.abs(next) > most || !pairsFit(q, k, step, pairMost, pairs)) continue;
    q[k] = next;
    addRow(pull, gram, k, -step);
    moved = true;
  }
  return moved;
}

interface Limits {
  readonly most: number;
  readonly pairMost: number;
  readonly pairs: Int32Array;
}

/** A sum may grow only as far as it fits; one that shrinks always may. */
function pairsFit(q: Int8Array, k: number, step: number, pairMost: number, pairs: Int32Array): boolean {
  for (let i = 4 * k; i < 4 * k + 4; i++) {
    if (pairs[i] < 0) continue;
    const sum = q[k] + step + q[pairs[i]];
    if (sum * step > pairMost) return false;
  }
  return true;
}

/** Four a weight, −1 for none: before and behind it as the row lies, and with channels innermost. */
function neighbours(depth: number, kernel: number): Int32Array {
  const pairs = new Int32Array(4 * depth).fill(-1);
  const channels = depth / kernel;
  const at = (i: number) => (i < 0 || i >= depth ? -1 : (i % channels) * kernel + Math.floor(i / channels));
  for (let k = 0; k < depth; k++) {
    const packed = (k % kernel) * channels + Math.floor(k / kernel);
    pairs.set([k - 1, k + 1 < depth ? k + 1 : -1, at(packed - 1), at(packed + 1)], 4 * k);
  }
  return pairs;
}

function addRow(pull: Float64Array, gram: Float64Array, k: number, factor: number): void {
  const start = k * pull.length;
  for (let j = 0; j < pull.length; j++) pull[j] += factor * gram[start + j];
}

function withDamping(gram: Float64Array, n: number, damping: number): Float64Array {
  let trace = 0;
  for (let i = 0; i < n; i++) trace += gram[i * n + i];
  if (!Number.isFinite(trace)) throw new QuantError('quant/not-finite', 'the Gram matrix is not finite');
  const damped = gram.slice();
  // Inputs that are always 0 have no say: any positive diagonal rounds them to nearest.
  for (let i = 0; i < n; i++) damped[i * n + i] += (trace / n) * damping || 1;
  return damped;
}
