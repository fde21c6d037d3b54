import type { Score } from './row.ts';
import type { Answers, Task } from './task.ts';

/** How an answer stands beside fp32's. */
export function scoreOf(task: Pick<Task, 'lowerIsBetter'>, own: Answers, fp32: Answers): Score {
  const samples = own.marks.length;
  const sqnrDb = sqnr(fp32.outputs, own.outputs);
  if (own.value !== undefined && fp32.value !== undefined) {
    const kept = task.lowerIsBetter === true ? fp32.value / own.value : own.value / fp32.value;
    return { samples, fp32: fp32.value, score: own.value, kept, sqnrDb };
  }
  const right = (of: Answers): number => of.marks.filter((mark, i) => mark === (fp32.truth ?? fp32.marks)[i]).length;
  return { samples, fp32: right(fp32), score: right(own), kept: right(own) / right(fp32), sqnrDb };
}

/** `10 · log₁₀(Σ a² / Σ (a − b)²)`; null where both are equal or there is nothing to compare. */
function sqnr(reference: readonly Float32Array[], found: readonly Float32Array[]): number | null {
  let [signal, noise] = [0, 0];
  for (const [n, a] of reference.entries())
    for (const [i, value] of a.entries()) {
      signal += value * value;
      noise += (value - (found[n]?.[i] ?? 0)) ** 2;
    }
  return noise > 0 ? 10 * Math.log10(signal / noise) : null;
}
