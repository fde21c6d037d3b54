import { z } from 'zod';
import { convertWeights, selection } from '../int4/convert-weights.ts';
import { storeInt8 } from '../int4/store.ts';
import { definePass } from '../pass.ts';

/**
 * Stores weights as int8 with a scale per output channel in standard ONNX, `DequantizeLinear(axis)` before Conv, Gemm,
 * MatMul and the Gather of an embedding. Activations stay float: nothing is calibrated, and a language model's outliers
 * cost nothing. What the board runs instead is lowering's choice.
 */
export const convertInt8 = definePass({
  name: 'convert-int8',
  stage: 'convert',
  options: z.strictObject(selection),
  async run(graph, context, chosen) {
    await convertWeights(graph, context, chosen, (site, name) =>
      storeInt8(context.kernels, site, name, 'weights alone'),
    );
    return graph;
  },
});
