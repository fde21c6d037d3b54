import { elementCount, type Graph } from '@flotilla/onnx';
import { weightSite } from '../int4/weight-site.ts';
import { nodeKey } from '../node-key.ts';

/** Nodes that are decided together: the readers of one weight, or neighbours where there are many. */
export interface Unit {
  readonly nodes: readonly string[];
}

/** Each is measured in every format. */
const MOST_UNITS = 24;
/** What convert-int4 leaves float in any case. */
const FEWEST_WEIGHTS = 1024;

/** The nodes of a cleaned graph whose format can be chosen, in its order. */
export function unitsOf(graph: Graph): readonly Unit[] {
  const byWeight = new Map<string, string[]>();
  for (const node of graph.walk()) {
    const site = node.domain === '' ? weightSite(node.graph, node) : '';
    if (typeof site === 'string' || site.tensor.dtype !== 'float32' || elementCount(site.tensor) < FEWEST_WEIGHTS)
      continue;
    const weight = node.graph.owner === undefined ? site.value : nodeKey(graph, node);
    byWeight.set(weight, [...(byWeight.get(weight) ?? []), nodeKey(graph, node)]);
  }
  const single = [...byWeight.values()];
  const perUnit = Math.ceil(single.length / MOST_UNITS);
  const units: Unit[] = [];
  for (let i = 0; i < single.length; i += perUnit) units.push({ nodes: single.slice(i, i + perUnit).flat() });
  return units;
}
