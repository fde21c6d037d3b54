import { type Graph, inferTypes, type Node, tensorFromFloats, type ValueType } from '@flotilla/onnx';
import { z } from 'zod';
import { definePass } from '../pass.ts';
import { handOn, setConstant, soleReader } from './edit.ts';

/**
 * `x + x · g` becomes `x · (g + 1)` where g has one element a channel, as squeeze and excitation beside a shortcut has:
 * the sum is then one of a few numbers, not a pass over the picture. A product that someone else reads stays.
 */
export const factorGate = definePass({
  name: 'factor-gate',
  stage: 'rewrite',
  options: z.strictObject({}),
  run(graph, { note }) {
    const types = inferTypes(graph);
    for (const add of Array.from(graph.nodes)) {
      const found = gatedShortcut(graph, types, add);
      if (!found) continue;
      const { product, gate } = found;
      const sum = graph.addNode(
        { opType: 'Add', inputs: [gate, ''], outputs: [graph.uniqueName(`${gate}_and_one`)] },
        { before: product },
      );
      setConstant(sum, 1, tensorFromFloats([1], Float32Array.of(1)), 'one');
      product.setInput(product.inputs.indexOf(gate), sum.outputs[0] ?? '');
      handOn(add, product.outputs[0] ?? '');
      note(product, 'the shortcut around it is part of its gate', 'rewritten');
    }
    return graph;
  },
});

function gatedShortcut(
  graph: Graph,
  types: ReadonlyMap<string, ValueType>,
  add: Node,
): { product: Node; gate: string } | undefined {
  if (add.opType !== 'Add' || add.domain !== '' || graph.isOutput(add.outputs[0] ?? '')) return undefined;
  for (const index of [0, 1]) {
    const [x = '', value = ''] = [add.inputs[index], add.inputs[1 - index]];
    const product = graph.producer(value);
    const at = product?.opType === 'Mul' && product.domain === '' ? product.inputs.indexOf(x) : -1;
    const gate = product?.inputs[1 - at];
    if (!product || at < 0 || gate === undefined || gate === x || graph.constant(gate)) continue;
    if (soleReader(graph, value) === add && isPooled(types.get(gate), types.get(x))) return { product, gate };
  }
  return undefined;
}

/** One element a channel, of a picture or a sound. */
function isPooled(gate: ValueType | undefined, x: ValueType | undefined): boolean {
  const [small, large] = [gate?.dims, x?.dims];
  if (!small || !large || gate?.dtype !== 'float32' || small.length !== large.length || small.length < 3) return false;
  return small.slice(2).every((dim) => dim === 1) && large.slice(2).some((dim) => dim !== 1);
}
