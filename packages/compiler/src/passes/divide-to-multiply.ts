import { floats, tensorFromFloats } from '@flotilla/onnx';
import { z } from 'zod';
import { definePass } from '../pass.ts';
import { floatConstant, setConstant } from './edit.ts';

/**
 * `x / c` becomes `x · (1/c)`: Div has no integer kernel and folds into nothing. Stays where a divisor is 0, or so small
 * that its inverse is not a normal float32.
 */
export const divideToMultiply = definePass({
  name: 'divide-to-multiply',
  stage: 'rewrite',
  options: z.strictObject({}),
  run(graph, { note }) {
    for (const node of Array.from(graph.walk({ opType: 'Div' }))) {
      const divisor = node.domain === '' ? floatConstant(node, 1) : undefined;
      if (!divisor) continue;
      const inverse = floats(divisor).map((value) => 1 / value);
      if (!inverse.every((value) => Number.isFinite(value) && Math.abs(value) > 1.2e-38)) {
        note(node, 'kept: a divisor has no finite inverse');
        continue;
      }
      const { graph: owner } = node;
      const mul = owner.addNode(
        { opType: 'Mul', inputs: node.inputs, outputs: [owner.uniqueName(`${node.outputs[0]}_scaled`)] },
        { before: node },
      );
      setConstant(mul, 1, tensorFromFloats(divisor.dims, inverse));
      const [output = ''] = node.outputs;
      owner.removeNode(node);
      owner.replaceUses(output, mul.outputs[0] ?? '');
    }
    return graph;
  },
});
