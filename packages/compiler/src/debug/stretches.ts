import type { Graph, Node } from '@flotilla/onnx';

const WITH_WEIGHTS: ReadonlySet<string> = new Set(['Conv', 'ConvTranspose', 'Gemm', 'MatMul', 'Gather', 'LSTM', 'GRU']);

/** The nodes between a value and the matched values that it is made from, the last one first. */
export function stretchTo(node: Node, isMatched: (graph: Graph, value: string) => boolean): readonly Node[] {
  const found = new Set([node]);
  const queue = [node];
  for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
    for (const input of next.inputs) {
      const from = definer(next.graph, input);
      const producer = from?.producer(input);
      if (!from || !producer || found.has(producer) || isMatched(from, input) || from.constant(input)) continue;
      found.add(producer);
      queue.push(producer);
    }
  }
  return [...found];
}

/** The node of a stretch that a person would look at: the one with weights, where there is just one; else the last. */
export function addressOf(stretch: readonly Node[]): Node | undefined {
  const weighted = stretch.filter((node) => isWeighted(node));
  return weighted.length === 1 ? weighted[0] : stretch[0];
}

/** Its weight may be read through a DequantizeLinear. */
function isWeighted(node: Node): boolean {
  if (/^(MatMulNBits|MatMulBnb4|GatherBlockQuantized|QLinear(Conv|MatMul)|QGemm)$/.test(node.opType)) return true;
  if (!WITH_WEIGHTS.has(node.opType)) return false;
  return node.inputs.some((name) => {
    if (name === '') return false;
    if (node.graph.constant(name)) return node.opType !== 'Gather' || name === node.inputs[0];
    const from = definer(node.graph, name)?.producer(name);
    return from?.opType === 'DequantizeLinear' && from.graph.constant(from.inputs[0] ?? '') !== undefined;
  });
}

function definer(graph: Graph, value: string): Graph | undefined {
  for (let scope: Graph | undefined = graph; scope !== undefined; scope = scope.owner?.graph)
    if (scope.producer(value) || scope.isInput(value) || scope.initializers.has(value)) return scope;
  return undefined;
}
