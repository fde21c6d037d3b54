import { z } from 'zod';
import { convertWeights, selection } from '../int4/convert-weights.ts';
import { storeInt8 } from '../int4/store.ts';
import { storeCodebook } from '../int4/store-codebook.ts';
import { sizesAt } from '../int4/weight-site.ts';
import { definePass } from '../pass.ts';

/**
 * Stores weights in NF4 or FP4, the formats of QLoRA's bases: 16 levels in a table, one maximum a block, as bitsandbytes
 * cuts them. A format to store: lowering gives every board the 8-bit kernel that holds these levels.
 * @see Dettmers et al. 2023, QLoRA, §3
 */
export const convertCodebook = definePass({
  name: 'convert-codebook',
  stage: 'convert',
  options: z.strictObject({
    format: z.enum(['nf4', 'fp4']).default('nf4'),
    /** Weights that share a maximum. */
    block: z.literal([16, 32, 64, 128, 256]).default(64),
    /** Maxima in 8 bits, 256 to a scale: 4.13 bits a weight at block 64 instead of 4.5. */
    nested: z.boolean().default(true),
    ...selection,
  }),
  async run(graph, context, chosen) {
    await convertWeights(graph, context, chosen, (site, name) => {
      const { rows, cols, inner } = sizesAt(site.tensor.dims, site.axis);
      if ((rows * cols * inner) % chosen.block !== 0)
        return storeInt8(context.kernels, site, name, `${rows * cols * inner} weights are no whole number of blocks`);
      return storeCodebook(context.kernels, site, name, chosen);
    });
    return graph;
  },
});
