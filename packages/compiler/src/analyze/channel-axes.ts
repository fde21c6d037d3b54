import type { Graph } from '@flotilla/onnx';

const FIRST: ReadonlySet<string> = new Set([
  'Conv',
  'ConvTranspose',
  'BatchNormalization',
  'InstanceNormalization',
  'MaxPool',
  'AveragePool',
  'GlobalAveragePool',
  'GlobalMaxPool',
  'Resize',
]);
const LAST: ReadonlySet<string> = new Set([
  'MatMul',
  'Gemm',
  'LayerNormalization',
  'SimplifiedLayerNormalization',
  'Gather',
  'Softmax',
]);
const MOVES: ReadonlySet<string> = new Set([
  'Transpose',
  'Reshape',
  'Squeeze',
  'Unsqueeze',
  'Flatten',
  'Split',
  'Slice',
]);

/**
 * Where each value has its channels: axis 1 behind convolutions, the last axis behind matrix products, handed on by what
 * works element by element; where nothing tells, axis 1 of four and more dimensions and the last of fewer (undefined here).
 */
export function channelAxes(graph: Graph): ReadonlyMap<string, number> {
  const axes = new Map<string, number>();
  for (const node of graph.walk()) {
    const known = node.inputs.map((name) => axes.get(name)).find((axis) => axis !== undefined);
    const axis = FIRST.has(node.opType) ? 1 : LAST.has(node.opType) ? -1 : MOVES.has(node.opType) ? undefined : known;
    if (axis !== undefined) for (const output of node.outputs) axes.set(output, axis);
  }
  return axes;
}

/** The axis for a tensor of that rank. */
export function channelAxis(known: number | undefined, rank: number): number {
  if (known !== undefined && known < rank) return known < 0 ? rank + known : known;
  return rank >= 4 ? 1 : rank - 1;
}
