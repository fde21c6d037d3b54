import { OnnxError } from '../errors.ts';
import type { GraphBody } from '../graph.ts';
import { describe, type GraphNode } from '../node.ts';

/**
 * Every value is made before it is read, and made at all.
 * @throws {OnnxError} `onnx/undefined-value`, `onnx/cycle`, `onnx/order`
 */
export function checkOrder(graph: GraphBody): void {
  const made = new Set<GraphNode>();
  for (const node of graph.nodes) {
    for (const name of node.inputs) {
      const producer = graph.producer(name);
      if (name === '' || (producer !== undefined && made.has(producer))) continue;
      if (producer !== undefined) throw notYet(graph, node, name);
      if (graph.definer(name) === undefined)
        throw new OnnxError('onnx/undefined-value', `${describe(node)} reads "${name}", which nothing makes`, {
          where: describe(node),
        });
    }
    made.add(node);
  }
  for (const { name } of graph.outputs)
    if (graph.definer(name) === undefined)
      throw new OnnxError('onnx/undefined-value', `output "${name}" is made by nothing`, { where: name });
}

function notYet(graph: GraphBody, node: GraphNode, name: string): OnnxError {
  const producer = graph.producer(name);
  const ring = producer !== undefined && dependsOn(graph, producer, node);
  const what = producer === undefined ? '' : describe(producer);
  if (ring)
    return new OnnxError('onnx/cycle', `${describe(node)} and ${what} need each other's outputs`, {
      where: describe(node),
    });
  return new OnnxError('onnx/order', `${describe(node)} stands before ${what}, whose "${name}" it reads`, {
    where: describe(node),
    hint: 'sort the nodes topologically',
  });
}

/** True if the node needs the other's outputs, however far back. Loops, since rings can be long. */
function dependsOn(graph: GraphBody, node: GraphNode, other: GraphNode): boolean {
  const seen = new Set([node]);
  for (const at of seen) {
    if (at === other) return true;
    for (const name of at.inputs) {
      const producer = graph.producer(name);
      if (producer !== undefined) seen.add(producer);
    }
  }
  return false;
}
