import { bitsOf, type Graph, inferTypes, type Node, type ValueType } from '@flotilla/onnx';
import { z } from 'zod';
import { CompilerError } from '../errors.ts';
import { definePass } from '../pass.ts';
import { evaluate } from './fold/evaluate.ts';

/**
 * Computes at compile time what depends on constants alone: `Shape` of a known shape and the arithmetic on it; `Cast`,
 * `Transpose`, `Reshape`, `Squeeze`, `Unsqueeze` and friends of constants. A `Constant` node stays one (every reader
 * sees through it). A result larger than `budgetBytes`, or all results together larger than `totalBytes`, is not made:
 * `Expand` of a small constant can be any size. Nor is what would stand beside the constant it was made from, because
 * others still read that.
 */
export const foldConstants = definePass({
  name: 'fold-constants',
  stage: 'rewrite',
  options: z.strictObject({
    budgetBytes: z
      .int()
      .nonnegative()
      .default(64 << 20),
    totalBytes: z
      .int()
      .nonnegative()
      .default(512 << 20),
  }),
  run(graph, { note }, { budgetBytes, totalBytes }) {
    let types = inferTypes(graph);
    let left = totalBytes;
    let folded = true;
    const made: Made = new Map();
    // Shapes become known as constants appear, so a pass over the graph can open the way for another.
    for (let round = 0; folded && round < 8; round++) {
      folded = false;
      for (const node of Array.from(graph.walk())) {
        const budget = Math.min(budgetBytes, left);
        const spent = fold(node, { types, made, budget, refuse: (reason) => note(node, `kept: ${reason}`) });
        if (spent === undefined) continue;
        left -= spent;
        folded = true;
      }
      if (folded) types = inferTypes(graph);
    }
    return graph;
  },
});

/** What a fold may add to the model: shapes and scalars, not weights. */
const smallBytes = 4096;

/** Names of what was computed from large constants, by their graph and by what was computed. */
type Made = Map<Graph, Map<string, string>>;

interface Folding {
  readonly types: ReadonlyMap<string, ValueType>;
  readonly made: Made;
  readonly budget: number;
  readonly refuse: (reason: string) => void;
}

/** Bytes that were spent; undefined where nothing was folded. */
function fold(node: Node, { types, made, budget, refuse }: Folding): number | undefined {
  const { graph } = node;
  const [output = ''] = node.outputs;
  // `Shape` needs the type alone; everything else the values.
  const shapeOnly = node.opType === 'Shape' || node.opType === 'Size';
  if (!(shapeOnly ? isFoldable(node) : isFoldable(node) && readsConstants(node))) return undefined;
  const home = homeOfLargest(node);
  const key = keyOf(node);
  const known = made.get(home)?.get(key);
  if (known !== undefined) {
    graph.removeNode(node);
    graph.replaceUses(output, known);
    return 0;
  }
  const inputs = node.inputs.map((name) => (name === '' ? undefined : graph.constant(name)));
  const result = evaluate(node, inputs, types.get(node.inputs[0] ?? ''), budget);
  if (result === undefined) return undefined;
  if (result === 'too-large') {
    refuse(`its value would be larger than ${budget} bytes`);
    return undefined;
  }
  const taken = node.inputs.some((name) => name !== '' && isTakenApart(graph, name, types));
  if (!taken && result.bytes.byteLength - bytesFreed(node) > smallBytes) {
    refuse('its value would be stored beside the constants it is made from');
    return undefined;
  }
  const name = home === graph ? output : home.uniqueName(output);
  graph.removeNode(node);
  try {
    home.addInitializer(name, result);
  } catch (cause) {
    throw new CompilerError('compiler/graph', `cannot make ${output} a constant`, { where: node.name, cause });
  }
  if (name !== output) graph.replaceUses(output, name);
  if (result.bytes.byteLength > smallBytes) made.set(home, (made.get(home) ?? new Map()).set(key, name));
  return result.bytes.byteLength;
}

const isFoldable = (node: Node): boolean =>
  node.domain === '' &&
  node.outputs.length === 1 &&
  node.opType !== 'Constant' &&
  !node.graph.isOutput(node.outputs[0] ?? '');

const readsConstants = ({ graph, inputs }: Node): boolean =>
  inputs.length > 0 && inputs.every((name) => name === '' || graph.constant(name) !== undefined);

/** Bytes of the constants that nothing but this node reads. */
function bytesFreed({ graph, inputs }: Node): number {
  let bytes = 0;
  for (const name of new Set(inputs)) {
    const tensor = name === '' ? undefined : graph.constant(name);
    if (tensor && homeOf(graph, name).consumers(name).length === 1) bytes += tensor.byteLength;
  }
  return bytes;
}

/** The graph, this or an outer one, that defines a constant. */
function homeOf(graph: Graph, name: string): Graph {
  const defines = graph.initializers.has(name) || graph.producer(name) !== undefined || graph.isInput(name);
  return defines || graph.owner === undefined ? graph : homeOf(graph.owner.graph, name);
}

/** Where a result belongs: beside the large constants it is made from, so that bodies share it; else where it is read. */
function homeOfLargest({ graph, inputs }: Node): Graph {
  const large = inputs.filter((name) => (graph.constant(name)?.byteLength ?? 0) > smallBytes);
  const homes = large.map((name) => homeOf(graph, name)).toSorted((a, b) => depthOf(b) - depthOf(a));
  return homes[0] ?? graph;
}

/** What a node computes, in words: two with one key in one home give the same. */
function keyOf({ graph, name, opType, inputs, attributes }: Node): string {
  const operands = inputs.map((input) => {
    const tensor = input === '' ? undefined : graph.constant(input);
    if (!tensor || tensor.byteLength > smallBytes) return `${depthOf(homeOf(graph, input))} ${input}`;
    return [tensor.dtype, tensor.dims, Buffer.from(tensor.bytes()).toString('hex')].join();
  });
  const options = [...attributes].map(([key, { kind, value }]) => {
    if (Array.isArray(value)) return `${key}=${value.join()}`;
    // A tensor or a body: like no other.
    return typeof value === 'object' ? `${key} of ${name}` : `${key}=${kind} ${value}`;
  });
  return JSON.stringify([opType, operands, options.toSorted()]);
}

function depthOf(graph: Graph): number {
  return graph.owner === undefined ? 0 : 1 + depthOf(graph.owner.graph);
}

/**
 * True where all that reads a constant are slices of it that will be folded, into no more bytes than it has: weights
 * that an exporter put in another order by parts. The constant then goes.
 */
function isTakenApart(graph: Graph, name: string, types: ReadonlyMap<string, ValueType>): boolean {
  const tensor = graph.constant(name);
  const home = homeOf(graph, name);
  if (!tensor || home.isOutput(name)) return false;
  const parts = new Map<string, number>();
  for (const reader of home.consumers(name)) {
    const type = types.get(reader.outputs[0] ?? '');
    if (reader.opType !== 'Slice' || !isFoldable(reader) || !readsConstants(reader) || !type?.dims) return false;
    const count = type.dims.reduce<number>((all, dim) => all * (typeof dim === 'number' ? dim : Number.NaN), 1);
    parts.set(keyOf(reader), (count * bitsOf(tensor.dtype)) / 8);
  }
  return [...parts.values()].reduce((sum, bytes) => sum + bytes, 0) <= tensor.byteLength + smallBytes;
}
