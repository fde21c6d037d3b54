import type { Note } from '../pass.ts';
import type { CompileReport } from './options.ts';

/** How many nodes were quantized, and which ones stayed float, each with the last reason that a pass gave. */
export function countNodes(notes: readonly Note[]): Pick<CompileReport, 'nodes' | 'float'> {
  const quantized = new Set<string>();
  const float = new Map<string, CompileReport['float'][number]>();
  for (const { node, op, outcome, reason } of notes) {
    if (outcome === 'quantized') quantized.add(node);
    if (outcome === 'float') float.set(node, { node, op, reason });
  }
  for (const node of quantized) float.delete(node);
  return { nodes: { quantized: quantized.size, float: float.size }, float: [...float.values()] };
}
