import type { Model } from '@flotilla/onnx';
import type { Tensors, TensorValue } from '@flotilla/runtime';
import { suitableInputs } from './calibrate/made-up-inputs.ts';
import { openModelSession } from './calibrate/model-session.ts';
import { CompilerError } from './errors.ts';

export interface RewriteCheck {
  readonly samples: number;
  /** True where there was no data and inputs were made up. */
  readonly madeUp: boolean;
  /** Largest |a − b| / (|a| + the output's root mean square) seen. */
  readonly worst: number;
  /** Why nothing could be compared. */
  readonly skipped?: string | undefined;
}

/** Float sums in another order differ; a wrong rewrite differs by far more. */
const tolerance = 2e-3; // half precision's last place is 1e-3
const comparedSamples = 4;
/** Outputs that are all smaller are nothing: a softmax's far tail, a sigmoid that is shut. */
const smallestScale = 1e-6;

/**
 * Runs both models on the first samples and compares every output. Where they differ by more than float arithmetic
 * usually does, the source is also compared with itself, unoptimized: some models magnify every rounding.
 * @throws {CompilerError} `compiler/rewrite-changed`, naming the output and the error
 */
export async function verifyRewrite(
  source: Model,
  rewritten: Model,
  samples: (() => AsyncIterable<Tensors>) | undefined,
): Promise<RewriteCheck> {
  const [before, after] = [await openModelSession(source), await openModelSession(rewritten)];
  let worst = 0;
  const check = async (feeds: Tensors): Promise<void> => {
    const expected = await before.run(feeds);
    const found = compare(expected, await after.run(feeds));
    if (found.error > tolerance && found.error > 4 * (await ownError(source, feeds, expected))) refuse(found);
    worst = Math.max(worst, found.error);
  };
  try {
    let count = 0;
    for await (const feeds of samples?.() ?? []) {
      await check(feeds);
      if (++count === comparedSamples) break;
    }
    // Samples may all take one branch of an If; what is made up takes the others too.
    const branches = source.graph.nodes.some(({ subgraphs }) => subgraphs.length > 0);
    // With the rewritten model's shapes: a recipe may fix some.
    const run = (feeds: Tensors) => before.run(feeds);
    const session = { inputs: after.inputs, run };
    const madeUp = count === 0 || branches ? await suitableInputs(session, source.graph) : [];
    for (const feeds of madeUp) await check(feeds);
    if (count + madeUp.length === 0)
      return {
        samples: 0,
        madeUp: true,
        worst: 0,
        skipped: 'the source model takes none of the inputs made up for it',
      };
    return { samples: count + madeUp.length, madeUp: count === 0, worst };
  } finally {
    await before.close();
    await after.close();
  }
}

function refuse({ name, error }: Difference): never {
  throw new CompilerError(
    'compiler/rewrite-changed',
    `clean-up changed output "${name}" by ${error.toExponential(1)}`,
    {
      where: name,
      hint: 'report it; a recipe without the clean-up passes works meanwhile',
    },
  );
}

async function ownError(source: Model, feeds: Tensors, expected: Tensors): Promise<number> {
  const plain = await openModelSession(source, { optimization: 'disabled' });
  try {
    return compare(expected, await plain.run(feeds)).error;
  } finally {
    await plain.close();
  }
}

interface Difference {
  readonly name: string;
  readonly error: number;
}

/** The output that differs most. */
function compare(expected: Tensors, actual: Tensors): Difference {
  let worst: Difference = { name: '', error: 0 };
  for (const [name, a] of Object.entries(expected)) {
    const b = actual[name];
    const error = b === undefined ? Number.POSITIVE_INFINITY : difference(a, b);
    if (error > worst.error) worst = { name, error };
  }
  return worst;
}

/** Error relative to the output's own scale (its root mean square), so that values near 0 do not count as wrong. */
function difference(a: TensorValue, b: TensorValue): number {
  if (a.dtype !== b.dtype || a.dims.join() !== b.dims.join()) return Number.POSITIVE_INFINITY;
  const [x, y] = [reals(a), reals(b)];
  if (!x || !y) return sameElements(a.data, b.data) ? 0 : 1;
  let square = 0;
  for (const value of x) square += Number.isFinite(value) ? value * value : 0;
  const scale = Math.sqrt(square / Math.max(1, x.length)) + smallestScale;
  let worst = 0;
  for (let i = 0; i < x.length; i++) {
    const [p, q] = [x[i] ?? 0, y[i] ?? 0];
    if (Object.is(p, q)) continue;
    const error = Math.abs(p - q) / (Math.abs(p) + scale);
    // NaN on one side only, or infinities that differ.
    if (!(error <= worst)) worst = Number.isNaN(error) ? Number.POSITIVE_INFINITY : error;
  }
  return worst;
}

function reals({ dtype, data }: TensorValue): Float32Array | Float64Array | undefined {
  if (dtype === 'float32' || dtype === 'float64') return data;
  return dtype === 'float16' ? Float32Array.from(data, halfToFloat) : undefined;
}

function halfToFloat(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15));
}

function sameElements(a: ArrayLike<unknown>, b: ArrayLike<unknown>): boolean {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return a.length === b.length;
}
