import { floats, type Graph, type Node } from '@flotilla/onnx';
import { QuantError } from '@flotilla/quant';
import { z } from 'zod';
import { CompilerError } from '../errors.ts';
import { activationOf, collectHessians, type Hessians } from '../int4/hessians.ts';
import { isHead } from '../int4/is-head.ts';
import { isPositionTable } from '../int4/position-table.ts';
import { type Storage, storeInt4, storeInt8 } from '../int4/store.ts';
import { sizesAt, type WeightSite, weightSite } from '../int4/weight-site.ts';
import { definePass, type PassContext } from '../pass.ts';

const options = z.strictObject({
  /** Weights that share a scale. A shorter power of two, down to a quarter, is taken where only that divides the axis. */
  block: z.literal([16, 32, 64, 128, 256]).default(32),
  /** int4 without zero points. Off: on ARM the engine's symmetric kernels lose more (kernels: 1e-2 relative). */
  symmetric: z.boolean().default(false),
  /**
   * rtn: round to nearest; gptq: rounded so that the layer's output on calibration data errs least; auto: gptq where there
   * is calibration data.
   */
  method: z.enum(['auto', 'rtn', 'gptq']).default('auto'),
  /** Calibration samples that gptq looks at. */
  samples: z.int().min(1).default(32),
  /** mse: each block's range is fitted for the least squared error; none: all of it. */
  clip: z.enum(['mse', 'none']).default('mse'),
  ops: z.array(z.enum(['Conv', 'Gemm', 'MatMul', 'Gather'])).default(['Conv', 'Gemm', 'MatMul', 'Gather']),
  /** Weights with fewer elements stay float: they cost accuracy and save nothing. */
  minElements: z.int().min(1).default(1024),
  /** What becomes of weights whose axis is shorter than 16: depthwise and first convolutions. */
  shortAxes: z.enum(['int8', 'float']).default('int8'),
  /**
   * What becomes of the last layer. Its errors reach the answer unsmoothed: on the label recogniser 4 bits there cost more
   * lines than in any other layer; llama.cpp's 4-bit files keep theirs at 6 bits.
   */
  head: z.enum(['int8', 'int4']).default('int8'),
  /** Names of nodes whose weights are stored as int8 instead. */
  int8: z.array(z.string()).default([]),
  /** Names of nodes that stay float. */
  float: z.array(z.string()).default([]),
});

type Options = z.output<typeof options>;
type Chosen = Options & { readonly hessians: Hessians };

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
    const opset = graph.model.opset.get('') ?? 0;
    if (opset < 21) {
      throw new CompilerError('compiler/opset', `blocked int4 needs opset 21, the model has ${opset}`, {
        hint: 'put the pass upgrade-opset before convert-int4',
      });
    }
    const done = new Map<string, Storage>();
    const nodes = [...graph.walk()].filter((node) => chosen.ops.some((op) => op === node.opType && node.domain === ''));
    const hessians = await hessiansFor(nodes, context, chosen);
    for (const [index, node] of nodes.entries()) {
      context.signal?.throwIfAborted();
      convertNode(node, { ...chosen, hessians }, context, done);
      context.progress(index + 1, nodes.length);
    }
    graph.removeDead();
    return graph;
  },
});

async function hessiansFor(nodes: readonly Node[], context: PassContext, chosen: Options): Promise<Hessians> {
  if (chosen.method === 'rtn' || (chosen.method === 'auto' && !context.samples)) return new Map();
  if (!context.samples) {
    throw new CompilerError('compiler/calibration', 'GPTQ needs calibration data', {
      hint: 'give --data, or --method rtn',
    });
  }
  const sites = nodes.flatMap((node) => {
    const site = weightSite(node.graph, node);
    return typeof site === 'string' || staysFloat(site, chosen) !== undefined ? [] : [site];
  });
  return collectHessians(sites, context, chosen.samples);
}

function convertNode(node: Node, chosen: Chosen, context: PassContext, done: Map<string, Storage>): void {
  const site = weightSite(node.graph, node);
  if (typeof site === 'string') {
    // A Gather of shapes or of computed rows is no weight that anyone would look for in the report.
    if (node.opType !== 'Gather') context.note(node, site, 'float');
    return;
  }
  const reason = staysFloat(site, chosen);
  if (reason !== undefined) {
    context.note(node, reason, 'float');
    return;
  }
  const value = node.inputs[site.input] ?? '';
  // Two readers of one weight read one stored form: a tied embedding stays tied.
  const key = JSON.stringify([value, site.axis, chosen.int8.includes(node.name)]);
  let storage = node.graph.owner === undefined ? done.get(key) : undefined;
  if (storage === undefined) {
    storage = store(site, value, chosen);
    done.set(key, storage);
  }
  node.setInput(site.input, storage.value);
  context.note(node, storage.reason, 'quantized');
}

function staysFloat({ node, tensor, axis }: WeightSite, chosen: Options): string | undefined {
  const { rows, cols, inner } = sizesAt(tensor.dims, axis);
  if (chosen.float.includes(node.name)) return 'the recipe keeps it float';
  if (tensor.dtype !== 'float32') return `its weight is ${tensor.dtype}`;
  if (rows * cols * inner < chosen.minElements) return `only ${rows * cols * inner} weights`;
  if (cols < 16 && chosen.shortAxes === 'float') return `only ${cols} weights to sum over, too few for a block`;
  if (node.opType === 'Gather' && isPositionTable(floats(tensor), cols)) return 'a table of positions, not of tokens';
  return undefined;
}

function store(site: WeightSite, value: string, chosen: Chosen): Storage {
  const graph: Graph = site.node.graph;
  const { cols } = sizesAt(site.tensor.dims, site.axis);
  try {
    if (cols < 16) return storeInt8(graph, site, value, `only ${cols} weights to sum over`);
    if (chosen.head === 'int8' && isHead(graph, site.node)) return storeInt8(graph, site, value, 'the last layer');
    if (chosen.int8.includes(site.node.name)) return storeInt8(graph, site, value, 'the recipe asks for it');
    const { symmetric, clip, hessians } = chosen;
    const hessian = hessians.get(activationOf(site) ?? '');
    return storeInt4(graph, site, value, { block: blockFor(cols, chosen.block), symmetric, clip, hessian });
  } catch (cause) {
    if (!(cause instanceof QuantError)) throw cause;
    const message = `${site.node.opType} ${site.node.name}: ${cause.message}`;
    throw new CompilerError('compiler/weights', message, { where: site.node.name, cause });
  }
}

/** A last block that is cut short keeps ARM's fast kernels away: rather a shorter block that divides the axis. */
function blockFor(cols: number, block: number): number {
  for (let shorter = block; shorter >= Math.max(16, block / 4); shorter /= 2) {
    if (cols % shorter === 0) return shorter;
  }
  return block;
}
