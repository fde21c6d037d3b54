import { inferTypes } from '@flotilla/onnx';
import { z } from 'zod';
import { definePass } from '../pass.ts';
import { handOn, soleReader, withConstant } from './edit.ts';
import { linearNode } from './linear.ts';

/**
 * `x · W + b` becomes `Gemm` where x is a matrix and b one constant per column. ONNX Runtime does so by itself, but
 * after quantizing: the product it then makes has a float bias and no integer kernel. A batch of matrices stays MatMul,
 * since Gemm takes none.
 */
export const fuseMatMulAdd = definePass({
  name: 'fuse-matmul-add',
  stage: 'rewrite',
  options: z.strictObject({}),
  run(graph) {
    const types = inferTypes(graph);
    for (const node of Array.from(graph.walk({ opType: 'MatMul' }))) {
      const { graph: owner } = node;
      const linear = linearNode(node);
      if (!linear || types.get(node.inputs[0] ?? '')?.dims?.length !== 2) continue;
      const add = soleReader(owner, node.outputs[0] ?? '');
      const sum = add?.opType === 'Add' && add.domain === '' ? withConstant(add) : undefined;
      if (!add || sum?.constant.dims.join() !== `${linear.outputChannels}`) continue;
      const gemm = owner.addNode(
        {
          opType: 'Gemm',
          name: node.name,
          inputs: [...node.inputs, add.inputs[sum.constantIndex] ?? ''],
          outputs: [owner.uniqueName(`${add.outputs[0]}_gemm`)],
        },
        { before: add },
      );
      handOn(add, gemm.outputs[0] ?? '');
      owner.removeNode(node);
    }
    return graph;
  },
});
