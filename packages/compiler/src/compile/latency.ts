import type { LoadedSession, SessionInput, Tensors } from '@flotilla/runtime';
import type { Interval } from '../statistics/interval.ts';
import { studentT975 } from '../statistics/student.ts';

export interface LatencyReport {
  readonly threads: number;
  readonly fp32: { readonly p50Us: number };
  readonly quantized: { readonly p50Us: number };
  /** fp32 / quantized: the median of the rounds' ratios. */
  readonly speedup: number;
  /** Of the rounds' mean ratio, at 95 %. */
  readonly interval: Interval;
  /** What clean-up alone gives: the fp32 model after it, lowered, beside the source. Absent where it was not measured. */
  readonly cleanup?: { readonly p50Us: number; readonly speedup: number; readonly interval: Interval };
}

export interface LatencyOptions {
  /** Of each model in each round. */
  readonly seconds: number;
  /** The fp32 model after clean-up, measured in the same rounds. */
  readonly cleaned?: LoadedSession | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onRound?: ((done: number, total: number) => void) | undefined;
}

/** Rounds in which all are measured in turn: what else the machine does hits all alike. */
const ROUNDS = 5;

/**
 * Medians of two models (and of the cleaned one) on the same inputs, measured in turns.
 * @param feeds for the inputs of one of them: lowering may add some
 */
export async function compareLatency(
  fp32: LoadedSession,
  quantized: LoadedSession,
  feeds: (inputs: readonly SessionInput[]) => readonly Tensors[],
  { seconds, cleaned, signal, onRound }: LatencyOptions,
): Promise<LatencyReport> {
  const rounds: { fp32: number; quantized: number; cleaned: number }[] = [];
  const measure = async (session: LoadedSession): Promise<number> => {
    const { latency } = await session.measure(feeds(session.inputs), {
      seconds,
      warmupRuns: rounds.length === 0 ? 3 : 1,
      signal,
    });
    return latency.summary().p50Us ?? Number.NaN;
  };
  for (let round = 0; round < ROUNDS; round++) {
    rounds.push({
      fp32: await measure(fp32),
      quantized: await measure(quantized),
      cleaned: cleaned ? await measure(cleaned) : Number.NaN,
    });
    onRound?.(round + 1, ROUNDS);
  }
  const beside = (key: 'quantized' | 'cleaned') => {
    const ratios = rounds.map((round) => round.fp32 / round[key]);
    return { speedup: median(ratios), interval: ratioInterval(ratios) };
  };
  const p50Us = (key: 'fp32' | 'quantized' | 'cleaned'): number => median(rounds.map((round) => round[key]));
  return {
    threads: quantized.threads,
    fp32: { p50Us: p50Us('fp32') },
    quantized: { p50Us: p50Us('quantized') },
    ...beside('quantized'),
    ...(cleaned && { cleanup: { p50Us: p50Us('cleaned'), ...beside('cleaned') } }),
  };
}

/** Student's interval of the mean logarithm of paired ratios. */
export function ratioInterval(ratios: readonly number[]): Interval {
  const logs = ratios.map(Math.log);
  const mean = logs.reduce((sum, log) => sum + log, 0) / logs.length;
  const variance = logs.reduce((sum, log) => sum + (log - mean) ** 2, 0) / (logs.length - 1);
  const half = studentT975(logs.length - 1) * Math.sqrt(variance / logs.length);
  return [Math.exp(mean - half), Math.exp(mean + half)];
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}
