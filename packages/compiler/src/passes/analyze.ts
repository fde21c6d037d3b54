import { floats } from '@flotilla/onnx';
import { z } from 'zod';
import { CompilerError } from '../errors.ts';
import { definePass } from '../pass.ts';

const linearOps = new Set(['Conv', 'ConvTranspose', 'Gemm', 'MatMul']);

/**
 * Looks at every float32 constant before anything is converted and refuses NaN by name, and infinity where it would be
 * multiplied. Elsewhere infinity is lawful: masks are made with it.
 * @throws {CompilerError} `compiler/weights`
 */
export const analyze = definePass({
  name: 'analyze',
  stage: 'analyze',
  options: z.strictObject({ allowNan: z.boolean().default(false) }),
  run(graph, { note, signal }, { allowNan }) {
    const seen = new Set<string>();
    for (const node of graph.walk()) {
      signal?.throwIfAborted();
      for (const name of node.inputs) {
        const tensor = seen.has(name) ? undefined : node.graph.constant(name);
        seen.add(name);
        if (tensor?.dtype !== 'float32' || tensor.byteLength < 8) continue;
        const values = floats(tensor);
        const isWeight = linearOps.has(node.opType);
        const index = values.findIndex((value) => Number.isNaN(value) || (isWeight && !Number.isFinite(value)));
        if (index < 0) continue;
        if (allowNan) note(node, `weights hold ${values[index]} at ${index}`);
        else
          throw new CompilerError('compiler/weights', `${name} holds ${values[index]} at index ${index}`, {
            where: node.name || node.opType,
            hint: 'mend the model; a recipe can say allowNan: true of pass analyze',
          });
      }
    }
    return graph;
  },
});
