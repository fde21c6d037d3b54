import { type Graph, type NewNode, type NewTensor, type Node, tensorFromFloats, tensorFromInts } from '@flotilla/onnx';
import { fourBitLevels, nestAbsMax } from '@flotilla/quant';
import type { Kernels } from '../kernels/kernels.ts';
import { keyOf, type Place } from './store.ts';
import { sizesAt, type WeightSite } from './weight-site.ts';

export interface CodebookOptions {
  readonly format: 'nf4' | 'fp4';
  readonly block: number;
  /** Block maxima in 8 bits each. */
  readonly nested: boolean;
}

/** Blocks that share a nested scale: bitsandbytes' number. */
const NESTED = 256;

/**
 * Makes NF4 or FP4 as bitsandbytes cuts it: the weight with its outputs first (`[out, in]`), flattened, in blocks. ONNX
 * has no such type, so the portable graph spells it out: codes (uint4) look their level up in a table of 16, times the
 * block's maximum, reshaped, and turned back where the operator wants the inputs first. Lowering knows the shape of this.
 */
export async function storeCodebook(
  kernels: Kernels,
  site: WeightSite,
  name: string,
  { format, block, nested }: CodebookOptions,
): Promise<Place> {
  const { tensor, axis } = site;
  const { cols, inner } = sizesAt(tensor.dims, axis);
  // A MatMul's [.., in, out] is turned, as a linear layer's checkpoint has it; the others are [out, in, …] already.
  const turned = axis === tensor.dims.length - 2 && tensor.dims.length === 2 && inner > 1;
  const turn = turned ? { rows: cols, columns: inner } : undefined;
  const [codes, absMax] = await kernels.codebook(keyOf(site, name, { format, block }), tensor, { format, block, turn });
  return (graph) => {
    const chain = new Chain(graph, site.node, name);
    const stored = chain.constant('codes', codes);
    const table = chain.constant('levels', tensorFromFloats([16], fourBitLevels(format)));
    const level = chain.add('Gather', [table, chain.add('Cast', [stored], { to: { int: INT32 } })]);
    const product = chain.add('Mul', [
      level,
      absMaxValue(chain, new Float32Array(absMax.bytes.slice().buffer), nested),
    ]);
    const dims = turned ? [inner, cols] : tensor.dims;
    const shaped = chain.add('Reshape', [product, chain.constant('shape', shapeOf(dims))]);
    const value = turned ? chain.add('Transpose', [shaped], { perm: { ints: [1, 0] } }) : shaped;
    return { value, reason: `${format}, blocks of ${block}${nested ? ', maxima in 8 bits' : ''}` };
  };
}

/** ONNX TensorProto.DataType. */
const INT32 = 6;

/** `[blocks, 1]`, float32. Nested: `map[code] · absMax + offset`, 256 codes to a row, the last row filled up with zeros. */
function absMaxValue(chain: Chain, absMax: Float32Array, nested: boolean): string {
  if (!nested) return chain.constant('absmax', tensorFromFloats([absMax.length, 1], absMax));
  const made = nestAbsMax(absMax);
  const rows = made.absMax.length;
  const codes = new Uint8Array(rows * NESTED);
  codes.set(made.codes);
  const stored = chain.constant('absmax_codes', { dtype: 'uint8', dims: [rows, NESTED], bytes: codes });
  const map = chain.constant('absmax_map', tensorFromFloats([256], made.map));
  const entry = chain.add('Gather', [map, chain.add('Cast', [stored], { to: { int: INT32 } })]);
  const scale = chain.constant('absmax_scale', tensorFromFloats([rows, 1], made.absMax));
  const offset = chain.constant('absmax_offset', tensorFromFloats([], [made.offset]));
  const sum = chain.add('Add', [chain.add('Mul', [entry, scale]), offset]);
  const flat = chain.add('Reshape', [sum, chain.constant('absmax_shape', shapeOf([rows * NESTED, 1]))]);
  if (rows * NESTED === absMax.length) return flat;
  return chain.add('Slice', [
    flat,
    chain.constant('absmax_start', shapeOf([0])),
    chain.constant('absmax_end', shapeOf([absMax.length])),
  ]);
}

/** Nodes in a row before a reader. */
class Chain {
  private readonly graph: Graph;
  private readonly before: Node;
  private readonly name: string;
  constructor(graph: Graph, before: Node, name: string) {
    this.graph = graph;
    this.before = before;
    this.name = name;
  }

  constant(suffix: string, tensor: NewTensor): string {
    const name = this.graph.uniqueName(`${this.name}_${suffix}`);
    this.graph.addInitializer(name, tensor);
    return name;
  }

  add(opType: string, inputs: readonly string[], attributes: NewNode['attributes'] = {}): string {
    const output = this.graph.uniqueName(`${this.name}_${opType}`);
    this.graph.addNode({ opType, inputs, outputs: [output], attributes }, { before: this.before });
    return output;
  }
}

function shapeOf(dims: readonly number[]): NewTensor {
  return tensorFromInts('int64', [dims.length], dims);
}
