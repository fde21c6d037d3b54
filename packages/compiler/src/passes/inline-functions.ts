import { functionOpsets, inlineFunctions, type Node } from '@flotilla/onnx';
import { z } from 'zod';
import { definePass } from '../pass.ts';
import { NEWEST_OPSET, OLDEST_OPSET, raiseNodes, raiseOpset } from './opset/raise.ts';

/**
 * Puts the nodes of the model's own functions (as PyTorch's dynamo exporter and onnxscript write them) in the place of
 * their calls: what is in a function is quantized as what is not. Where functions and model are of different ai.onnx
 * versions, the older are raised.
 */
export const inlineOwnFunctions = definePass({
  name: 'inline-functions',
  stage: 'rewrite',
  options: z.strictObject({}),
  run(graph, { note }) {
    const { model } = graph;
    const versions = functionOpsets(model);
    const to = Math.max(model.opset.get('') ?? OLDEST_OPSET, ...versions.filter((one) => one <= NEWEST_OPSET));
    raiseOpset(graph, to);
    const older = new Map<Node, number>();
    const left = inlineFunctions(model, {
      takes: (opset) => opset === undefined || opset === to || (opset < to && opset >= OLDEST_OPSET),
      added: (nodes, opset = to) => {
        for (const node of nodes) {
          older.set(node, opset);
          for (const body of node.subgraphs) for (const inner of body.walk()) older.set(inner, opset);
        }
      },
    });
    raiseNodes(graph, older, to);
    for (const call of left) note(call, `its function is of a version that is not converted: the model's is ${to}`);
    return graph;
  },
});
