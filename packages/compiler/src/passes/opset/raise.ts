import { type Graph, inferTypes, type Node } from '@flotilla/onnx';
import { CompilerError } from '../../errors.ts';
import { conversionOf } from './conversions.ts';

/** What operators mean changed by rules of conversion between these two. */
export const OLDEST_OPSET = 7;
export const NEWEST_OPSET = 21;

/**
 * Raises ai.onnx in the whole graph. A model already there stays as it is.
 * @throws {CompilerError} `compiler/opset` for a version below 7, or an operator whose old meaning has no new spelling
 */
export function raiseOpset(graph: Graph, to: number): void {
  const { model } = graph;
  const from = model.opset.get('');
  if (from === undefined || from >= to) return;
  if (from < OLDEST_OPSET)
    throw new CompilerError(
      'compiler/opset',
      `opset ${from} broadcasts and normalizes by rules that ended with opset 7`,
      {
        hint: 'export the model anew at opset 13 or later',
      },
    );
  // Before IR version 4 every initializer was also listed as an input; as one it could be overridden at run time.
  if (model.irVersion < 4) graph.setInputs(graph.inputs.filter(({ name }) => !graph.initializers.has(name)));
  raiseNodes(graph, new Map(Array.from(graph.walk(), (node) => [node, from])), to);
  model.setOpset('', to);
  if (model.irVersion < irVersionFor(to)) model.setIrVersion(irVersionFor(to));
}

/** Raises nodes, each from the version it is written in. @throws {CompilerError} `compiler/opset` */
export function raiseNodes(graph: Graph, nodes: ReadonlyMap<Node, number>, to: number): void {
  const due = [...nodes].flatMap(([node, from]) => {
    const rules = node.domain === '' ? conversionOf(node.opType) : [];
    // Each rule speaks of one version; a node passes every one between its own and the target.
    return rules.flatMap(({ since, convert }) => (since > from && since <= to ? [{ node, convert }] : []));
  });
  if (due.length === 0) return;
  const types = inferTypes(graph);
  for (const { node, convert } of due) if (node.graph.nodes.includes(node)) convert(node, types);
}

/** The IR version that each opset came out with (ONNX `helper.OP_SET_ID_VERSION_MAP`). */
function irVersionFor(opset: number): number {
  if (opset >= 21) return 10;
  if (opset >= 19) return 9;
  return opset >= 15 ? 8 : 7;
}
