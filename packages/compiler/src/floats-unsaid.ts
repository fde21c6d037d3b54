import type { Graph, Node } from '@flotilla/onnx';
import type { Note } from './pass.ts';

/** Constants with fewer elements are not worth a line. */
const MIN_ELEMENTS = 1024;

/** They hand constants on. */
const CARRIERS: ReadonlySet<string> = new Set(['Constant', 'Identity', 'Cast', 'QuantizeLinear', 'DequantizeLinear']);

/**
 * Whatever reads float constants after all conversions, and of which none of them spoke: an operator that no pass knows
 * stays float, and the report has to say so.
 */
export function floatsUnsaid(
  graph: Graph,
  notes: readonly Note[],
  { pass, label }: { readonly pass: string; readonly label: (node: Node) => string },
): readonly Note[] {
  const said = new Set(notes.flatMap(({ node, outcome }) => (isFate(outcome) ? [node] : [])));
  return [...graph.walk()].flatMap((node): Note[] => {
    if (CARRIERS.has(node.opType) || said.has(label(node))) return [];
    const sizes = node.inputs.map((value) => floatElements(node, value));
    const all = sizes.reduce((sum, size) => sum + size, 0);
    if (all < MIN_ELEMENTS) return [];
    const reason = `no pass of the recipe quantizes ${node.opType}: ${all.toLocaleString('en')} weights stay float`;
    return [{ pass, node: label(node), op: node.opType, outcome: 'float', reason }];
  });
}

const isFate = (outcome: Note['outcome']): boolean => outcome === 'quantized' || outcome === 'float';

function floatElements(node: Node, value: string): number {
  const tensor = value === '' ? undefined : node.graph.constant(value);
  if (!tensor?.dtype.includes('float')) return 0;
  return tensor.dims.reduce((product, dim) => product * dim, 1);
}
