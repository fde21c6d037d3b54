import { type Graph, inferTypes, type Node, tensorFromInts } from '@flotilla/onnx';

/** The input that says of how many positions, counted from the end, logits are wanted; 0: of all. As exporters call it. */
const KEEP = 'num_logits_to_keep';
/** Works on every position alone, and keeps their order. */
const POSITIONWISE: ReadonlySet<string> = new Set(['Add', 'Cast', 'Div', 'Identity', 'Mul', 'Softcap', 'Tanh']);

/**
 * Cuts the positions off before the head: in prefill it is the largest product by far, and only its last row is used.
 * Only where the one output that is no cache comes out of a product whose left side is `[batch, length, hidden]`.
 */
export function keepLastLogits(graph: Graph): boolean {
  const outputs = graph.outputs.filter(({ type }) => type?.dims?.length === 3);
  const [logits] = outputs;
  if (outputs.length !== 1 || !logits || graph.isInput(KEEP)) return false;
  const head = headOf(graph, logits.name);
  const hidden = head?.inputs[0] ?? '';
  if (!head || inferTypes(graph).get(hidden)?.dims?.length !== 3) return false;
  graph.setInputs([...graph.inputs, { name: KEEP, type: { dtype: 'int64', dims: [] } }]);
  const ints = (name: string, value: number | bigint) => {
    const made = graph.uniqueName(name);
    graph.addInitializer(made, tensorFromInts('int64', [1], [value]));
    return made;
  };
  const add = (opType: string, inputs: string[]) =>
    graph.addNode({ opType, inputs, outputs: [graph.uniqueName(`logits_${opType}`)] }, { before: head }).outputs[0] ??
    '';
  // 0 negated is 0: the beginning.
  const start = add('Reshape', [add('Neg', [KEEP]), ints('logits_one', 1)]);
  const kept = add('Slice', [hidden, start, ints('logits_end', 2n ** 63n - 1n), ints('logits_axis', 1)]);
  head.setInput(0, kept);
  return true;
}

/** The product behind the output, or undefined where something other than single positions lies between. */
function headOf(graph: Graph, output: string): Node | undefined {
  let node = graph.producer(output);
  for (let steps = 0; node && steps < 8; steps++) {
    if (node.opType === 'MatMul') return graph.consumers(node.outputs[0] ?? '').length <= 1 ? node : undefined;
    if (!POSITIONWISE.has(node.opType)) return undefined;
    const computed = node.inputs.filter((input) => graph.constant(input) === undefined);
    if (computed.length !== 1) return undefined;
    node = graph.producer(computed[0] ?? '');
  }
  return undefined;
}
