import { elementCount, type Graph, type Node } from '@flotilla/onnx';
import { weightSite } from '../../int4/weight-site.ts';
import type { PassContext } from '../../pass.ts';
import { storeConstant, type StoredConstants } from './weights.ts';

/** Tables with fewer elements stay float: they save nothing. */
const MIN_ELEMENTS = 1024;

/**
 * Stores the tables that `Gather` looks rows up in (embeddings: half of a small text encoder) as int8 with a scale per
 * row, where nothing but other lookups reads them.
 */
export function storeTables(
  graph: Graph,
  { note, exclude }: Pick<PassContext, 'note'> & { readonly exclude: readonly string[] },
): void {
  const stored: StoredConstants = new Map();
  for (const node of Array.from(graph.walk({ opType: 'Gather', domain: '' }))) {
    const site = weightSite(node.graph, node);
    if (typeof site === 'string' || site.tensor.dtype !== 'float32' || elementCount(site.tensor) < MIN_ELEMENTS)
      continue;
    if (!node.graph.consumers(site.value).every(isLookup)) continue;
    if (exclude.includes(node.name) || exclude.includes('Gather')) continue;
    storeConstant(node, 0, { weight: site.tensor, axis: 0 }, stored);
    note(node, 'int8 rows, as storage', 'quantized');
  }
}

/** A lookup along the first axis, of which all are converted; a float reader would keep the floats beside the rows. */
const isLookup = (node: Node): boolean => node.opType === 'Gather' && node.int('axis', 0) === 0;
