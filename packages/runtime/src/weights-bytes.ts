import type { Graph } from '@flotilla/onnx';

/** Bytes of every constant in the model, external data included; nothing of it is read. */
export async function weightsBytes(modelPath: string): Promise<number> {
  const { openModel } = await import('@flotilla/onnx'); // an idle session needs no protobuf
  return constantBytes((await openModel(modelPath)).graph);
}

export function constantBytes(graph: Graph): number {
  let sum = 0;
  for (const tensor of graph.initializers.values()) sum += tensor.byteLength;
  for (const node of graph.nodes) {
    const value = node.opType === 'Constant' ? node.attributes.get('value') : undefined;
    if (value?.kind === 'tensor') sum += value.value.byteLength;
    for (const body of node.subgraphs) sum += constantBytes(body);
  }
  return sum;
}
