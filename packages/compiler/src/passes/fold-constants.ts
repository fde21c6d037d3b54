import { type Graph, inferTypes, type Node, type ValueType } from '@flotilla/onnx';
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
    // Shapes become known as constants appear, so a pass over the graph can open the way for another.
    for (let round = 0; folded && round < 8; round++) {
      folded = false;
      for (const node of Array.from(graph.walk())) {
        const spent = fold(node, types, Math.min(budgetBytes, left), (reason) => note(node, `kept: ${reason}`));
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

/** Bytes of the constants that nothing but this node reads. */
function bytesFreed(node: Node): number {
  let bytes = 0;
  for (const name of new Set(node.inputs)) {
    const tensor = name === '' ? undefined : node.graph.constant(name);
    if (tensor && readersOf(node.graph, name) === 1) bytes += tensor.byteLength;
  }
  return bytes;
}

/** Readers of a value, counted where it is defined: a body may read what others read outside of it. */
function readersOf(graph: Graph, name: string): number {
  let home: Graph | undefined = graph;
  while (home && !home.initializers.has(name) && !home.producer(name)) home = home.owner?.graph;
  return home ? home.consumers(name).length : 0;
}

function fold(
  node: Node,
  types: ReadonlyMap<string, ValueType>,
  budgetBytes: number,
  refuse: (reason: string) => void,
): number | undefined {
  const { graph } = node;
  const [output = ''] = node.outputs;
  if (node.domain !== '' || node.outputs.length !== 1 || node.opType === 'Constant' || graph.isOutput(output))
    return undefined;
  const inputs = node.inputs.map((name) => (name === '' ? undefined : graph.constant(name)));
  // `Shape` needs the type alone; everything else the values.
  const shapeOnly = node.opType === 'Shape' || node.opType === 'Size';
  if (!shapeOnly && (inputs.length === 0 || node.inputs.some((name, index) => name !== '' && !inputs[index])))
    return undefined;
  const result = evaluate(node, inputs, types.get(node.inputs[0] ?? ''), budgetBytes);
  if (result === undefined) return undefined;
  if (result === 'too-large') {
    refuse(`its value would be larger than ${budgetBytes} bytes`);
    return undefined;
  }
  const added = result.bytes.byteLength - bytesFreed(node);
  if (added > smallBytes) {
    refuse('its value would be stored beside the constants it is made from');
    return undefined;
  }
  graph.removeNode(node);
  try {
    graph.addInitializer(output, result);
  } catch (cause) {
    throw new CompilerError('compiler/graph', `cannot make ${output} a constant`, { where: node.name, cause });
  }
  return result.bytes.byteLength;
}
