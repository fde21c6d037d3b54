import type { LoadedSession, Tensors } from '@flotilla/runtime';

export interface LatencyReport {
  readonly threads: number;
  readonly fp32: { readonly p50Us: number };
  readonly quantized: { readonly p50Us: number };
  readonly speedup: number;
}

/** Rounds in which both are measured in turn: what else the machine does hits both alike. */
const ROUNDS = 5;

/**
 * Medians of two models on the same inputs, measured in turns; `speedup` is the median of the rounds' ratios.
 * @param seconds of each model in each round
 */
export async function compareLatency(
  fp32: LoadedSession,
  quantized: LoadedSession,
  feeds: readonly Tensors[],
  { seconds, signal }: { readonly seconds: number; readonly signal?: AbortSignal | undefined },
): Promise<LatencyReport> {
  const rounds: { fp32: number; quantized: number }[] = [];
  const measure = async (session: LoadedSession): Promise<number> => {
    const { latency } = await session.measure(feeds, { seconds, warmupRuns: rounds.length === 0 ? 3 : 1, signal });
    return latency.summary().p50Us ?? Number.NaN;
  };
  for (let round = 0; round < ROUNDS; round++) {
    rounds.push({ fp32: await measure(fp32), quantized: await measure(quantized) });
  }
  return {
    threads: quantized.threads,
    fp32: { p50Us: median(rounds.map((round) => round.fp32)) },
    quantized: { p50Us: median(rounds.map((round) => round.quantized)) },
    speedup: median(rounds.map((round) => round.fp32 / round.quantized)),
  };
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}
