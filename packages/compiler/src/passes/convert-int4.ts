import { z } from 'zod';
import { CompilerError } from '../errors.ts';
import { chosenSites, convertWeights, selection, type Store } from '../int4/convert-weights.ts';
import { activationOf, collectHessians, type Hessians } from '../int4/hessians.ts';
import { InTurn } from '../int4/in-turn.ts';
import { blockFor, diagonal } from '../int4/blocks-of.ts';
import { keepActivationsFloat } from '../int4/float-activations.ts';
import { readersGram } from '../int4/readers-gram.ts';
import { storeInt4 } from '../int4/store.ts';
import { sizesAt } from '../int4/weight-site.ts';
import { isNamed } from '../node-key.ts';
import { definePass, type PassContext } from '../pass.ts';

const options = z.strictObject({
  /** Weights that share a scale. A shorter power of two, down to a quarter, is taken where only that divides the axis. */
  block: z.literal([16, 32, 64, 128, 256]).default(32),
  /** int4 without zero points. Off: on ARM the engine's symmetric kernels lose more (kernels: 1e-2 relative). */
  symmetric: z.boolean().default(false),
  /**
   * rtn: round to nearest on grids with the least squared error; hqq: on grids with the least error to the power of 0.7;
   * gptq: rounded so that the layer's output on calibration data errs least; awq: rtn, where an error costs what its
   * input carries (the pass scale-channels comes before it); auto: gptq where there is calibration data, else rtn. All but
   * hqq walk an embedding as gptq would, along what its first readers make of it, which no data are needed for.
   */
  method: z.enum(['auto', 'rtn', 'hqq', 'gptq', 'awq']).default('auto'),
  /**
   * Calibration samples that gptq and awq look at. Default 32, of token ids 256 (in turn 128): a sample of those is few
   * vectors, where a picture has thousands.
   */
  samples: z.int().min(1).optional(),
  /** Rounds in which gptq looks back at what it has rounded; see `descend`. Default 4 where gptq is asked for, else 0. */
  sweeps: z.int().min(0).optional(),
  /**
   * gptq takes layers first to last, each with its inputs as the rounded layers before it leave them, and so that it makes
   * up for what those have lost; off: with the float model's inputs. Default: on where gptq is asked for and the model
   * reads tokens. Each group of layers costs a run of the samples.
   */
  inTurn: z.boolean().optional(),
  /** mse: each block's range is fitted for the least squared error; none: all of it. hqq has its own. */
  clip: z.enum(['mse', 'none']).default('mse'),
  /** Scales that bfloat16 holds exactly: ARM's symmetric kernels cut them to that (kernels: they then lose nothing). */
  bf16Scales: z.boolean().default(false),
  /**
   * Nodes whose products take their activations as floats (`accuracy_level` 1 of MatMulNBits), where all others round them
   * to 8 bits (level 4): at a third to a quarter of the speed (kernels: 0.31 against 0.07 to 0.10 ms for a 2048 × 2048
   * matrix). By 4-bit weights only: 8 bits have no fast kernel for it.
   */
  floatActivations: z.union([z.literal('all'), z.array(z.string())]).default([]),
  ...selection,
});

/**
 * Stores weights as blockwise 4-bit in standard ONNX: `DequantizeLinear(axis, block_size)` before Conv, Gemm, MatMul and
 * the Gather of an embedding. Activations stay float. What the board runs instead is lowering's choice. The exception is
 * a table of positions: its rows are smooth, few, and read by every token.
 */
export const convertInt4 = definePass({
  name: 'convert-int4',
  stage: 'convert',
  options,
  async run(graph, context, chosen) {
    const { method: asked, symmetric, bf16Scales } = chosen;
    const method = asked === 'auto' ? (context.samples ? 'gptq' : 'rtn') : asked;
    const steered = method === 'gptq' || method === 'awq';
    if (steered && !context.samples) {
      throw new CompilerError('compiler/calibration', `${method.toUpperCase()} needs calibration data`, {
        hint: 'give --data, or --method rtn or hqq',
      });
    }
    const sites = chosenSites(graph, chosen);
    const nodes = sites.map(({ node }) => node);
    const isText = steered && (await readsTokens(context));
    const { inTurn = asked === 'gptq' && isText, sweeps = asked === 'gptq' ? 4 : 0 } = chosen;
    const { samples = isText ? (inTurn ? 128 : 256) : 32 } = chosen;
    const turns = inTurn && method === 'gptq' ? new InTurn(sites, context, samples) : undefined;
    const hessians: Hessians = steered && !turns ? await collectHessians(sites, context, samples) : new Map();
    const float = context.floatModel.graph;
    const grams = new Map(sites.map((site) => [site.node, method === 'hqq' ? undefined : readersGram(float, site)]));
    const clip = method === 'hqq' ? 'hqq' : chosen.clip;
    const store: Store = async (site, name) => {
      const { cols } = sizesAt(site.tensor.dims, site.axis);
      const turn = await turns?.steering(graph, site);
      const hessian = turn?.hessian ?? hessians.get(activationOf(site) ?? '');
      return storeInt4(context.kernels, site, name, {
        block: blockFor(cols, chosen.block),
        symmetric,
        clip,
        bf16Scales,
        hessian: method === 'gptq' ? (grams.get(site.node) ?? hessian) : grams.get(site.node),
        importance: method === 'awq' ? hessian && diagonal(hessian, cols) : undefined,
        // What has other readers, with other inputs, cannot make up for what this one's has lost.
        cross: float.consumers(name).length > 1 ? undefined : turn?.cross,
        sweeps,
      });
    };
    await convertWeights(graph, context, chosen, store, turns && ((node) => turns.opensGroup(node)));
    const { floatActivations: named } = chosen;
    const inFloats = nodes.filter((node) => named === 'all' || isNamed(named, node));
    keepActivationsFloat(graph, inFloats);
    return graph;
  },
});

async function readsTokens({ samples }: PassContext): Promise<boolean> {
  for await (const feeds of samples?.() ?? []) {
    return Object.values(feeds).every(({ dtype, dims }) => dtype.startsWith('int') || dims.includes(0));
  }
  return false;
}
