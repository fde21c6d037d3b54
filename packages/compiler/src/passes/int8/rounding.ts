import { floats, type Graph, integers } from '@flotilla/onnx';
import { setConstant } from '../edit.ts';
import { type Gram, gramSize } from './grams.ts';
import type { QuantizedLayer } from './layers.ts';
import { channelAxis } from './weights.ts';

/** Rows of a layer that read the same inputs, and what their integers must keep to. */
export interface RowsToRound {
  /** As they are, `[rows, depth]`. */
  readonly q: Int8Array;
  /** `[rows, depth]` */
  readonly w: Float32Array;
  /** `[rows]` */
  readonly scale: Float32Array;
  /** `[depth, depth]` */
  readonly gram: Float64Array;
  /** Largest |q|, and of neighbours |qₐ + q_b| where they kept to 16 bits before. */
  readonly most: number;
  readonly pairMost: number | undefined;
  /** Elements of a kernel: what lies this far apart can be neighbours too. */
  readonly kernel: number;
}

/** Gives a static int8 layer the integers that `round` returns for each group of its rows; scales stay. */
export function roundAnew(
  graph: Graph,
  { node, original }: QuantizedLayer,
  { groups, depth, sums }: Gram,
  round: (rows: RowsToRound) => Int8Array,
): void {
  const reading = graph.producer(node.inputs[1] ?? '');
  const [old, scales] = [0, 1].map((index) => graph.constant(reading?.inputs[index] ?? ''));
  if (!reading || !old || !scales) return;
  const channels = original.outputChannels;
  const turned = channelAxis(original) === 1;
  const before = rowsFirst(Int8Array.from(integers(old)), channels, turned);
  const w = rowsFirst(floats(original.weight), channels, turned);
  const scale = floats(scales);
  const kernel = node.opType === 'Conv' ? original.weight.dims.slice(2).reduce((product, dim) => product * dim, 1) : 1;
  const found = limitsOf(before, depth);
  // The kernel for depthwise convolution adds in 32 bits everywhere.
  const isDepthwise = groups === channels && groups > 1;
  const limits = { ...found, pairMost: isDepthwise ? undefined : found.pairMost, kernel };
  const after = new Int8Array(before.length);
  const size = channels / groups;
  for (let group = 0; group < groups; group++) {
    const [from, to] = [group * size, (group + 1) * size];
    const rows = {
      q: before.subarray(from * depth, to * depth),
      w: w.subarray(from * depth, to * depth),
      scale: scale.subarray(from, to),
      gram: sums.subarray(group * depth * depth, (group + 1) * depth * depth),
      ...limits,
    };
    after.set(round(rows), from * depth);
  }
  const bytes = rowsFirst(after, turned ? depth : channels, turned);
  setConstant(reading, 0, { dtype: 'int8', dims: old.dims, bytes: new Uint8Array(bytes.buffer) });
}

/** Whether the work that grows with the depth's square or cube is bearable. */
export const isShallow = ({ original }: QuantizedLayer, deepest: number): boolean =>
  gramSize(original).depth <= deepest;

/** What the rows keep to now. */
function limitsOf(q: Int8Array, depth: number): { most: number; pairMost: number | undefined } {
  let [most, pairs] = [0, 0];
  for (let i = 0; i < q.length; i++) {
    most = Math.max(most, Math.abs(q[i] ?? 0));
    if (i % depth > 0) pairs = Math.max(pairs, Math.abs((q[i] ?? 0) + (q[i - 1] ?? 0)));
  }
  return { most, pairMost: pairs <= 128 ? 128 : undefined };
}

/** `[depth, rows]` as `[rows, depth]` where `turned`; else as it is. */
function rowsFirst<A extends Int8Array | Float32Array>(values: A, rows: number, turned: boolean): A {
  if (!turned) return values;
  const depth = values.length / rows;
  const result = values.slice() as A;
  for (let row = 0; row < rows; row++)
    for (let k = 0; k < depth; k++) result[row * depth + k] = values[k * rows + row] ?? 0;
  return result;
}
