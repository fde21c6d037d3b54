import { type Dim, inferTypes, tensorFromInts } from '@flotilla/onnx';
import { z } from 'zod';
import { definePass } from '../pass.ts';
import { setConstant } from './edit.ts';

/**
 * A `Reshape` whose shape is computed at run time (Shape → Gather → Concat …) takes a constant one where inference knows
 * all of its result's lengths but one, which −1 stands for. So does `Expand` where it knows them all. The arithmetic
 * that made the shape is then dead.
 */
export const simplifyShapes = definePass({
  name: 'simplify-shapes',
  stage: 'rewrite',
  options: z.strictObject({}),
  run(graph) {
    const types = inferTypes(graph);
    for (const node of graph.walk({ domain: '' })) {
      if (node.opType !== 'Reshape' && node.opType !== 'Expand') continue;
      const [output = ''] = node.outputs;
      const shape = node.inputs[1] ?? '';
      const dims = types.get(output)?.dims;
      const known = dims && constantShape(dims, node.opType === 'Reshape' ? 1 : 0);
      // A name of the graph's own may be declared wrongly; what inference says of it may come from there.
      if (!known || shape === '' || node.graph.constant(shape) || node.graph.isOutput(output)) continue;
      setConstant(node, 1, tensorFromInts('int64', [known.length], known), 'shape');
    }
    return graph;
  },
});

/** Lengths with −1 for what is not known; undefined where more than `most` are not, or one is 0, which means another thing. */
function constantShape(dims: readonly Dim[], most: number): readonly number[] | undefined {
  const unknown = dims.filter((dim) => typeof dim !== 'number').length;
  if (unknown > most || dims.includes(0)) return undefined;
  return dims.map((dim) => (typeof dim === 'number' ? dim : -1));
}
