import type { CompileOptions, CompileReport } from './options.ts';
import type { Source } from './source.ts';

/** From here on what passes make of constants lies in a file beside the output until it is written. */
const SPILLED_BYTES = 256e6;

/**
 * A larger model is not run unless something asks for it: fp32 alone would take as much memory as its file. Then clean-up
 * is not compared with the source, the residual stream is not turned, nothing is measured, the pack has no golden vectors; a warning says so.
 */
const RUN_BYTES = 1e9;

export function isSpilled(bytes: number): boolean {
  return bytes > SPILLED_BYTES;
}

/** Data to calibrate or judge on, a budget, a report and a stated time for latency ask for runs. */
export function isUnrun({ bytes }: Pick<Source, 'bytes'>, options: CompileOptions): boolean {
  const { data, eval: judge, budget = [], reportHtml, latencySeconds = 0, loraMode = 'merge' } = options;
  const asked = data !== undefined || judge !== undefined || reportHtml !== undefined || latencySeconds > 0;
  // Adapters that stay beside the base are tried out on it.
  return bytes > RUN_BYTES && !asked && loraMode === 'merge' && budget.length === 0;
}

export const UNRUN_WARNING =
  'the model is larger than 1 GB, so it was not run: clean-up was not compared with the source, rotate-residual and the folding of gains into weights were left out, nothing was measured, and there are no golden vectors; give --data';

/** Scales, zero points and their nodes can outweigh what a very small model saves. */
export function growthWarnings(nodes: CompileReport['nodes'], bytes: number, sourceBytes: number): readonly string[] {
  if (nodes.quantized === 0 || bytes <= sourceBytes) return [];
  return [
    `quantized, the model has ${bytes} bytes, more than the source's ${sourceBytes}; --weights fp16 may be smaller`,
  ];
}
