import { floats, type Graph, type Node } from '@flotilla/onnx';
import { findHomes } from './homes.ts';

/** What quantizing the merged weights took from them. */
export interface Requantization {
  /** Layers that were compared: those whose weights stand behind a DequantizeLinear now. */
  readonly layers: number;
  /** Signal to noise over all of them, in decibels. */
  readonly snrDb: number;
  /** The layer that lost most. */
  readonly worst: { readonly node: string; readonly snrDb: number };
}

/**
 * Compares the weights of two graphs whose nodes have the same names.
 * @param float with the merged weights
 * @param quantized the same, converted
 */
export function requantizationOf(float: Graph, quantized: Graph): Requantization | null {
  const converted = new Map([...quantized.walk()].map((node) => [node.name, node]));
  let [signal, noise, layers] = [0, 0, 0];
  let worst: Requantization['worst'] | undefined;
  for (const { node, input, tensor, storedInOut, readInOut } of findHomes(float)) {
    const reader = storedInOut === readInOut ? converted.get(node.name) : undefined;
    const now = reader && dequantized(reader, input);
    const was = now && floats(tensor);
    if (!now || was?.length !== now.length) continue;
    let [power, error] = [0, 0];
    for (const [i, value] of was.entries()) {
      power += value ** 2;
      error += (value - (now[i] ?? 0)) ** 2;
    }
    layers++;
    signal += power;
    noise += error;
    const snrDb = decibels(power, error);
    if (!worst || snrDb < worst.snrDb) worst = { node: node.name, snrDb };
  }
  return worst ? { layers, snrDb: decibels(signal, noise), worst } : null;
}

/** Up to what float32 can tell. */
function decibels(signal: number, noise: number): number {
  return 10 * Math.log10(Math.max(signal, Number.MIN_VALUE) / Math.max(noise, signal * 1e-14, Number.MIN_VALUE));
}

/** The constant that a node reads through a DequantizeLinear, as float32. @see ONNX DequantizeLinear-21 */
function dequantized({ graph, inputs }: Node, input: number): Float32Array | undefined {
  const node = graph.producer(inputs[input] ?? '');
  if (node?.opType !== 'DequantizeLinear') return undefined;
  const [x, scale, zero] = [0, 1, 2].map((i) => node.graph.constant(node.inputs[i] ?? ''));
  if (!x || !scale) return undefined;
  const [q, scales, zeros] = [floats(x), floats(scale), zero && floats(zero)];
  const at = node.int('axis', 1);
  const axis = at < 0 ? at + x.dims.length : at;
  const block = node.int('block_size', 0) || 1;
  const length = x.dims[axis] ?? 1;
  const inner = x.dims.slice(axis + 1).reduce((product, dim) => product * dim, 1);
  const blocks = Math.ceil(length / block);
  const isBlocked = node.int('block_size', 0) > 0;
  return q.map((value, i) => {
    const along = Math.floor(i / inner) % length;
    const group = Math.floor(along / block);
    const blocked = (Math.floor(i / (inner * length)) * blocks + group) * inner + (i % inner);
    const s = scales.length === 1 ? 0 : isBlocked ? blocked : along;
    return (value - (zeros?.[s] ?? 0)) * (scales[s] ?? 0);
  });
}
