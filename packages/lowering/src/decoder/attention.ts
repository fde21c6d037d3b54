import { type Graph, type Node } from '@flotilla/onnx';
import { looksCausal } from './causal-mask.ts';
import { axesOf, madeBy, transposes, unscaled } from './match.ts';

/** Causal attention with a KV cache, as found in plain operators. */
export interface Attention {
  readonly node: Node;
  /** `[batch, heads, length, size]` */
  readonly q: string;
  /** `[batch, kvHeads, length, size]`: the new rows, positions worked in. */
  readonly k: string;
  readonly v: string;
  readonly key: Cache;
  readonly value: Cache;
  readonly scale: number;
  /** The Transpose that gives `[batch, length, heads, size]`, and its only reader, a Reshape. */
  readonly back: Node;
}

export interface Cache {
  readonly past: string;
  readonly present: string;
  readonly heads: number;
  readonly size: number;
  /** The name of its one scale, where the cache is int8. */
  readonly scale: string | undefined;
}

/** Reads an attention off its Softmax; in words, why it is none that can be fused. */
export function matchAttention(softmax: Node): Attention | string {
  const { graph } = softmax;
  const axis = softmax.int('axis', -1);
  if (axis !== -1 && axis !== 3) return 'a Softmax along another axis';
  const masked = unmasked(graph, softmax.inputs[0] ?? '');
  if (typeof masked === 'string') return masked;
  const scores = unscaled(graph, masked.value);
  const product = madeBy(graph, scores.value, 'MatMul');
  if (!product) return 'no product of queries and keys before the Softmax';
  const q = unscaled(graph, product.inputs[0] ?? '');
  const turned = unscaled(graph, product.inputs[1] ?? '');
  const transpose = graph.producer(turned.value);
  if (!transposes(transpose, [0, 1, 3, 2])) return 'keys that are not transposed';
  const keys = unscaled(graph, transpose.inputs[0] ?? '');
  const key = cached(graph, unrepeated(graph, keys.value));
  const sum = weighedSum(graph, softmax);
  const value = sum && cached(graph, unrepeated(graph, sum.inputs[1] ?? ''));
  if (!key || !value) return 'keys or values that are no cache joined with new rows';
  // What the kernel of 1.30.0 refuses when it runs.
  if (key.size % 16 !== 0 || key.size !== value.size) return `heads of ${key.size} and ${value.size} numbers`;
  const back = sum.outputs[0] === undefined ? undefined : soleReader(graph, sum.outputs[0]);
  if (!transposes(back, [0, 2, 1, 3])) return 'heads that are not joined after the sum';
  const scale = scores.scale * q.scale * turned.scale * keys.scale;
  return { node: softmax, q: q.value, k: key.rows, v: value.rows, key, value, scale, back };
}

/** What is masked: through any number of masks, each of which must look causal, at least one of them. */
function unmasked(graph: Graph, value: string): { readonly value: string } | string {
  let [at, masks] = [value, 0];
  for (;;) {
    const node = graph.producer(at);
    if (node?.domain !== '' || (node.opType !== 'Add' && node.opType !== 'Where')) break;
    const [a = '', b = '', c = ''] = node.inputs;
    const options = node.opType === 'Add' ? [[a, b] as const, [b, a] as const] : [[b, a] as const, [c, a] as const];
    const found = options.find(([, mask]) => looksCausal(graph, mask));
    if (!found) return 'a mask that may not be causal';
    [at] = found;
    masks++;
  }
  return masks > 0 ? { value: at } : 'no mask';
}

/** The sum of values by the Softmax's shares, seen through a guard against rows that are masked whole. */
function weighedSum(graph: Graph, softmax: Node): Node | undefined {
  const [shares = ''] = softmax.outputs;
  const readers = graph.consumers(shares);
  const guard = readers.find(({ opType }) => opType === 'Where');
  const value = guard?.inputs[2] === shares && readers.length === 2 ? (guard.outputs[0] ?? '') : shares;
  const reader = soleReader(graph, value);
  return reader?.opType === 'MatMul' && reader.domain === '' && reader.inputs[0] === value ? reader : undefined;
}

function soleReader(graph: Graph, value: string): Node | undefined {
  const readers = graph.consumers(value);
  return readers.length === 1 && !graph.isOutput(value) ? readers[0] : undefined;
}

/** Before every head of keys was repeated for its group of queries: `[b, h, t, s]` → `[b, h, 1, t, s]` → grown → joined. */
function unrepeated(graph: Graph, value: string): string {
  const joined = madeBy(graph, value, 'Reshape');
  const copies = joined?.inputs[0] ?? '';
  const grown = madeBy(graph, copies, 'Expand') ?? madeBy(graph, copies, 'Tile');
  const wide = grown && madeBy(graph, grown.inputs[0] ?? '', 'Unsqueeze');
  return wide && axesOf(wide)?.join() === '2' ? (wide.inputs[0] ?? '') : value;
}

/** A graph output that joins a graph input and new rows along the length: floats, or int8 around which stand Q and DQ. */
function cached(graph: Graph, value: string): (Cache & { readonly rows: string }) | undefined {
  const read = madeBy(graph, value, 'DequantizeLinear');
  const present = read ? (read.inputs[0] ?? '') : value;
  const join = madeBy(graph, present, 'Concat');
  const [past = '', added = ''] = join?.inputs ?? [];
  const axis = join?.int('axis', 0);
  if (join?.inputs.length !== 2 || !graph.isOutput(present) || !graph.isInput(past)) return undefined;
  const type = graph.inputs.find(({ name }) => name === past)?.type;
  const [, heads, , size] = type?.dims ?? [];
  const fits = type?.dims?.length === 4 && (axis === 2 || axis === -2);
  if (!fits || typeof heads !== 'number' || typeof size !== 'number') return undefined;
  if (!read)
    return type.dtype === 'float32' ? { past, present, heads, size, scale: undefined, rows: added } : undefined;
  const write = madeBy(graph, added, 'QuantizeLinear');
  const [rows = '', scale = ''] = write?.inputs ?? [];
  const symmetric = write && [write, read].every((node) => isSymmetric(node, scale));
  return symmetric && type.dtype === 'int8' ? { past, present, heads, size, scale, rows } : undefined;
}

/** One scale, a zero point of 0. */
function isSymmetric(node: Node, scale: string): boolean {
  const { graph } = node;
  const zero = node.inputs[2] ?? '';
  const one = graph.constant(scale)?.dims.every((dim) => dim === 1);
  return node.inputs[1] === scale && one === true && (zero === '' || graph.constant(zero)?.bytes()[0] === 0);
}
