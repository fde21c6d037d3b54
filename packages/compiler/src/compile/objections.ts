import { percent, times } from './say.ts';
import type { CompileReport } from './options.ts';

/**
 * Why the result should not be shipped as it is, a line each: exit code 4 unless `--force`. A floor of 0 asks nothing of
 * accuracy; what was not quantized has lost none. Only this machine's speed is known: it speaks for the boards of its
 * class.
 */
export function objectionsTo(
  { verdict, latency, nodes }: Pick<CompileReport, 'verdict' | 'latency' | 'nodes'>,
  { floor = 0.98, onTarget }: { readonly floor?: number | undefined; readonly onTarget: boolean },
): readonly string[] {
  const objections: string[] = [];
  if (verdict && !verdict.ok) {
    const { metric, kept, samples } = verdict;
    objections.push(`${metric} keeps ${percent(kept)} of fp32's on ${samples} samples, the floor is ${percent(floor)}`);
  }
  if (!verdict && nodes.quantized > 0 && floor > 0)
    objections.push('nothing was left to judge accuracy on; give --eval, or more --data');
  if (latency && latency.interval[1] < 1 && onTarget)
    objections.push(`slower than fp32 on this machine: ${times(latency.speedup)} its speed`);
  return objections;
}
