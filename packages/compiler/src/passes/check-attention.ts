import { loadBoard } from '@flotilla/boards';
import { ATTENTION, lowerModel } from '@flotilla/lowering';
import { decoderFeeds, type Tensors } from '@flotilla/runtime';
import { z } from 'zod';
import { seededRandom } from '../calibrate/seeded-random.ts';
import { definePass } from '../pass.ts';
import { verifyRewrite } from '../verify-rewrite.ts';

const IDS = [3, 1, 4, 1, 5, 9, 2, 6];
const PAST = 5;

/**
 * Lowering fuses a decoder's attention by what its graph looks like. Whether that gives the same numbers is found out
 * here, in floats, behind an empty and behind a filled cache; where it does not, the model says so, and every board
 * leaves its attention in plain operators.
 */
export const checkAttention = definePass({
  name: 'check-attention',
  stage: 'analyze',
  options: z.strictObject({}),
  async run(graph, { floatModel, warn, unrun = false }) {
    const fused = lowerModel(floatModel, await loadBoard('host'));
    if (!fused.choices.some(({ kernel }) => kernel === 'GroupQueryAttention')) return graph;
    if (unrun) {
      warn('fused attention was not compared with the plain one: the model is too large');
      return graph;
    }
    try {
      await verifyRewrite(floatModel, fused.model, () => samples(floatModel.graph.inputs));
    } catch (error) {
      graph.model.setMetadata(ATTENTION, 'plain');
      warn(`attention stays in plain operators: ${error instanceof Error ? error.message : String(error)}`);
    }
    return graph;
  },
});

type Inputs = Parameters<typeof lowerModel>[0]['graph']['inputs'];

async function* samples(inputs: Inputs): AsyncIterable<Tensors> {
  const described = inputs.map(({ name, type }) => ({
    name,
    dtype: type?.dtype ?? 'float32',
    dims: (type?.dims ?? []).map((dim) => dim ?? ''),
  }));
  yield decoderFeeds(described, IDS);
  const random = seededRandom(3);
  const behind = decoderFeeds(described, IDS.slice(0, 3), PAST);
  for (const { dtype, data } of Object.values(behind))
    if (dtype === 'float32') for (let i = 0; i < data.length; i++) data[i] = 2 * random() - 1;
  yield behind;
}
