import type { GraphBody } from '../graph.ts';
import { graphsOf } from '../model-names.ts';
import { ownModel } from '../open-model.ts';
import { StoredTensor } from '../tensor.ts';
import type { Model } from '../types.ts';
import { inferTypes } from '../infer/infer-types.ts';
import { checkFunctions } from './check-functions.ts';
import { checkNames } from './check-names.ts';
import { checkOpset } from './check-opset.ts';
import { checkOrder } from './check-order.ts';
import { checkQuant } from './check-quant.ts';
import { checkNotNan } from './check-weights.ts';

/**
 * That the model is one: operator sets, names, order, every tensor's data (external files are looked at), quantization
 * parameters. Weights are read, piece by piece, to find a NaN; `allowNan` leaves that out.
 * What opening a model already refuses is not looked at again.
 * @throws {OnnxError} the first fault found, with the node's or the tensor's name
 */
export function checkModel(model: Model, options: { readonly allowNan?: boolean | undefined } = {}): void {
  const own = ownModel(model);
  checkOpset(own);
  checkFunctions(own);
  const graphs = [...graphsOf(own.graph)];
  for (const graph of graphs) {
    checkNames(graph);
    checkOrder(graph);
    checkTensors(graph, options.allowNan ?? false);
  }
  const types = inferTypes(own.graph);
  for (const graph of graphs) for (const node of graph.nodes) checkQuant(node, types);
}

/** Initializers, and tensors in attributes, whose heads are checked by decoding them. */
function checkTensors(graph: GraphBody, allowNan: boolean): void {
  for (const [name, tensor] of graph.initializers) {
    if (tensor instanceof StoredTensor) tensor.checkData();
    if (!allowNan) checkNotNan(tensor, name);
  }
  for (const node of graph.nodes)
    for (const attribute of node.attributes.values())
      if (attribute.kind === 'tensor' && attribute.value instanceof StoredTensor) {
        attribute.value.checkData();
        if (!allowNan) checkNotNan(attribute.value, node.outputs[0] ?? node.name);
      }
}
