import { integers, type Node } from '@flotilla/onnx';
import type { Home } from './homes.ts';
import { lastPart, likeness } from './paths.ts';
import type { Search, Site, Wanted } from './sites.ts';

/** Modules that optimizers lay into one product, in the order in which they lie there. */
const FAMILIES: readonly (readonly (readonly string[])[])[] = [
  [
    ['q_proj', 'query', 'q', 'q_lin', 'to_q', 'wq'],
    ['k_proj', 'key', 'k', 'k_lin', 'to_k', 'wk'],
    ['v_proj', 'value', 'v', 'v_lin', 'to_v', 'wv'],
  ],
  [
    ['gate_proj', 'w1'],
    ['up_proj', 'w3'],
  ],
];

/**
 * A module's part of a product that others were fused into: the graph's name for it is the modules' parent with another
 * last part (`attn.qkv_proj`), or the parent alone. Where it is cut a `Split` says, else the outputs that the other
 * modules have. Undefined where there is no such product, or no telling where to cut.
 */
export function fusedSite(wanted: Wanted, { homes, siblings }: Search): Site | undefined {
  const { module } = wanted;
  const last = lastPart(module);
  const family = FAMILIES.find((parts) => parts.some((names) => names.includes(last)));
  if (!family) return undefined;
  const parent = module.slice(0, -last.length - 1);
  const index = family.findIndex((names) => names.includes(last));
  const column = family[index]?.indexOf(last) ?? 0;
  const parts = family.map((names) => `${parent}.${names[column] ?? ''}`);
  const found = homes.filter((home) => home.inFeatures === wanted.inFeatures && isFused(home, parent, parts));
  const [home, ...others] = found;
  if (!home || others.some((other) => other.value !== home.value)) return undefined;
  const sizes = splitSizes(home, parts.length) ?? sizesOf(parts, siblings, home.outFeatures);
  if (sizes?.[index] !== wanted.outFeatures) return undefined;
  const begin = sizes.slice(0, index).reduce((sum, size) => sum + size, 0);
  return { readers: [home, ...others], begin, end: begin + wanted.outFeatures };
}

function isFused({ paths }: Home, parent: string, parts: readonly string[]): boolean {
  return paths.some((path) => {
    const own = lastPart(path);
    const above = path.slice(0, -own.length - 1);
    const isSibling = parts.some((part) => lastPart(part) === own);
    return (
      !isSibling && (likeness(path, parent) > 0 || (above !== '' && likeness(above, parent) > 0 && FUSED.test(own)))
    );
  });
}

const FUSED = /qkv|query_key_value|c_attn|in_proj|gate_up|w13/i;

/** What a `Split` behind the product (and its bias) cuts it into. */
function splitSizes({ node, bias, outFeatures }: Home, count: number): readonly number[] | undefined {
  const last = bias && bias.node !== node ? bias.node : node;
  const split = node.graph.consumers(last.outputs[0] ?? '').find(({ opType }) => opType === 'Split');
  if (split?.outputs.length !== count) return undefined;
  return lengthsOf(split) ?? Array.from({ length: count }, () => outFeatures / count);
}

/** An input since opset 13, an attribute before. */
function lengthsOf(split: Node): readonly number[] | undefined {
  const tensor = split.graph.constant(split.inputs[1] ?? '');
  const lengths = tensor ? integers(tensor) : split.ints('split', []);
  return lengths.length > 0 ? lengths : undefined;
}

/** Known from the adapter's other modules; one unknown is what is left, and keys are as long as values. */
function sizesOf(
  parts: readonly string[],
  siblings: ReadonlyMap<string, number>,
  total: number,
): readonly number[] | undefined {
  const known = parts.map((part) => siblings.get(part));
  const [query, key, value] = known;
  if (parts.length === 3 && key === undefined && value !== undefined) known[1] = value;
  if (parts.length === 3 && value === undefined && key !== undefined) known[2] = key;
  if (parts.length === 3 && key === undefined && value === undefined && query !== undefined)
    known[1] = known[2] = (total - query) / 2;
  const left = total - known.reduce<number>((sum, size) => sum + (size ?? 0), 0);
  const sizes = known.map((size) => size ?? left);
  const isWhole = sizes.every((size) => Number.isInteger(size) && size > 0);
  return isWhole && sizes.reduce((sum, size) => sum + size, 0) === total ? sizes : undefined;
}
