import type { Model } from '@flotilla/onnx';
import type { Session, Tensors, TensorValue } from '@flotilla/runtime';
import { openModelSession } from './calibrate/model-session.ts';
import { madeUpInputs } from './calibrate/made-up-inputs.ts';
import { CompilerError } from './errors.ts';

export interface RewriteCheck {
  readonly samples: number;
  /** True where there was no data and inputs were made up. */
  readonly madeUp: boolean;
  /** Largest |a − b| / (|a| + scale of the output) seen. */
  readonly worst: number;
  /** Why nothing could be compared. */
  readonly skipped?: string | undefined;
}

/** Float sums in another order differ; a wrong rewrite differs by far more. */
const tolerance = 2e-3;
const comparedSamples = 4;

/**
 * Runs both models on the first samples and compares every output.
 * @throws {CompilerError} `compiler/rewrite-changed`, naming the output and the error
 */
export async function verifyRewrite(
  source: Model,
  rewritten: Model,
  samples: (() => AsyncIterable<Tensors>) | undefined,
): Promise<RewriteCheck> {
  const [before, after] = [await openModelSession(source), await openModelSession(rewritten)];
  try {
    let count = 0;
    let worst = 0;
    for await (const feeds of samples ? samples() : madeUpInputs(before.inputs)) {
      const expected = await tryRun(before, feeds, samples !== undefined);
      // Made-up inputs may not suit the model (lengths that must agree, for one); the source refuses them then.
      if (!expected) return { samples: 0, madeUp: true, worst: 0, skipped: 'the source model refuses made-up inputs' };
      worst = Math.max(worst, compare(expected, await after.run(feeds)));
      if (++count === comparedSamples) break;
    }
    return { samples: count, madeUp: samples === undefined, worst };
  } finally {
    await before.close();
    await after.close();
  }
}

async function tryRun(session: Session, feeds: Tensors, mustRun: boolean): Promise<Tensors | undefined> {
  try {
    return await session.run(feeds);
  } catch (error) {
    if (mustRun) throw error;
    return undefined;
  }
}

function compare(expected: Tensors, actual: Tensors): number {
  let worst = 0;
  for (const [name, a] of Object.entries(expected)) {
    const b = actual[name];
    const error = b === undefined ? Number.POSITIVE_INFINITY : difference(a, b);
    if (!(error <= tolerance))
      throw new CompilerError(
        'compiler/rewrite-changed',
        `clean-up changed output "${name}" by ${error.toExponential(1)}`,
        {
          where: name,
          hint: 'report it; a recipe without the clean-up passes works meanwhile',
        },
      );
    worst = Math.max(worst, error);
  }
  return worst;
}

/** Error relative to the output's own scale (its root mean square), so that values near 0 do not count as wrong. */
function difference(a: TensorValue, b: TensorValue): number {
  if (a.dtype !== b.dtype || a.dims.join() !== b.dims.join()) return Number.POSITIVE_INFINITY;
  if (a.dtype !== 'float32' || b.dtype !== 'float32') return String(a.data) === String(b.data) ? 0 : 1;
  let square = 0;
  for (const value of a.data) square += Number.isFinite(value) ? value * value : 0;
  const scale = Math.sqrt(square / Math.max(1, a.data.length)) + 1e-12;
  let worst = 0;
  for (let i = 0; i < a.data.length; i++) {
    const [x, y] = [a.data[i] ?? 0, b.data[i] ?? 0];
    if (Object.is(x, y)) continue;
    const error = Math.abs(x - y) / (Math.abs(x) + scale);
    // NaN on one side only, or infinities that differ.
    if (!(error <= worst)) worst = Number.isNaN(error) ? Number.POSITIVE_INFINITY : error;
  }
  return worst;
}
