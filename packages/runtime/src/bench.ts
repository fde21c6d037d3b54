import { cpus, release } from 'node:os';
import { type OperatorTime, profileOperators } from './profile.ts';
import type { Latency, LoadedSession, MeasureOptions, Memory, SessionOptions, Tensors } from './types.ts';

export interface BenchOptions extends MeasureOptions {
  readonly feeds: readonly Tensors[];
  /** Also times each operator, in a session of its own (profiling slows what it watches). Default false. */
  readonly profile?: boolean | undefined;
  /** How that session is opened; the same as the measured one's. */
  readonly session?: SessionOptions | undefined;
}

export interface BenchReport {
  readonly machine: { readonly cpu: string; readonly cores: number; readonly os: string; readonly node: string };
  readonly threads: number;
  /** `processMs` is null for a session in this process; `firstMs` for one that had run before. */
  readonly coldStart: {
    readonly processMs: number | null;
    readonly loadMs: number;
    readonly firstMs: number | null;
  };
  readonly latency: Latency;
  readonly throughputPerS: number;
  readonly memory: Memory;
  readonly operators: readonly OperatorTime[];
}

/**
 * Measures a session: its cold start, then runs for `seconds`, one at a time.
 * A fresh `spawnSession` gives the whole cold start and a memory figure that holds nothing else.
 */
export async function bench(session: LoadedSession, options: BenchOptions): Promise<BenchReport> {
  const { feeds, profile, session: sessionOptions, ...measureOptions } = options;
  const { latency, firstMs, seconds } = await session.measure(feeds, measureOptions);
  return {
    machine: {
      cpu: cpus()[0]?.model.trim() ?? 'unknown',
      cores: cpus().length,
      os: `${process.platform} ${release()} ${process.arch}`,
      node: process.version,
    },
    threads: session.threads,
    coldStart: { ...session.coldStart, firstMs },
    latency: latency.summary(),
    throughputPerS: seconds > 0 ? latency.count / seconds : 0,
    memory: await session.memory(),
    operators: profile
      ? await profileOperators(session.modelPath, feeds, { threads: session.threads, ...sessionOptions })
      : [],
  };
}
