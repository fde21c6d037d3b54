import type { NodeError } from './compare-nodes.ts';
import { asNumber } from './deviation.ts';

/** Nobody calls less than this a rounding: the error is a quarter of the signal. */
const LEAST_DB = 6;
/** A healthy node is at most so much worse than the median, whatever the format. */
const BEHIND_MEDIAN_DB = 25;
/** Where all nodes err alike, so many standard deviations (by the median deviation, ×1.4826) worse, and 10 dB at least. */
const DEVIATIONS = 4;
const LEAST_BEHIND_DB = 10;

/**
 * The first node, in the graph's order, whose own error is out of line with the others'. Formats differ by tens of dB,
 * so the bound follows from the nodes that err at all: four standard deviations under their median, from 10 to 25 dB, but
 * no less than 6 dB.
 */
export function firstDivergence(
  nodes: readonly NodeError[],
  floorDb: number | undefined,
): { readonly floorDb: number; readonly first: NodeError | null } {
  const own = nodes
    .flatMap(({ ownDb }) => (ownDb === null || ownDb > EXACT_DB ? [] : [ownDb]))
    .toSorted((a, b) => a - b);
  const median = own[own.length >> 1] ?? 0;
  const far = own.map((db) => Math.abs(db - median)).toSorted((a, b) => a - b)[own.length >> 1] ?? 0;
  const behind = Math.min(BEHIND_MEDIAN_DB, Math.max(LEAST_BEHIND_DB, DEVIATIONS * 1.4826 * far));
  const floor = floorDb ?? Math.max(LEAST_DB, median - behind);
  return { floorDb: floor, first: nodes.find(({ ownDb }) => asNumber(ownDb) < floor) ?? null };
}

/** Sums of floats in another order. */
const EXACT_DB = 90;
