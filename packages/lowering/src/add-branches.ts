import type { Graph, Model, Node, ValueInfo } from '@flotilla/onnx';
import { LoweringError } from './errors.ts';

/** A layer that adapters may change, by its output in the portable graph. */
export interface Branch {
  readonly output: string;
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** Whether some adapter scales the layer's outputs, or adds to them. */
  readonly hasGain: boolean;
  readonly hasShift: boolean;
}

/** Inputs that carry an adapter's factors begin so. */
export const BRANCH_PREFIX = 'flotilla.adapter/';

/** The input for one of a branch's tensors: A `[inFeatures, rank]`, B `[rank, outFeatures]`, gain and shift `[outFeatures]`. */
export function branchInput(output: string, tensor: 'a' | 'b' | 'gain' | 'shift'): string {
  return `${BRANCH_PREFIX}${output}/${tensor}`;
}

/**
 * Adds low-rank branches to a lowered graph: `y' = gain ⊙ y + (x A) B + shift`. The factors are inputs of the graph, since
 * ONNX Runtime's Node binding knows no adapters; their rank is free, so that each adapter has its own, and none has 0.
 * After lowering, so that nothing which lowering fuses is torn apart.
 * @throws {LoweringError} `lowering/branch`
 * @see Hu et al. 2021, LoRA, equation 3; Liu et al. 2024, DoRA, equation 5 (its norm is folded into gain and B)
 */
export function addBranches(model: Model, branches: readonly Branch[]): void {
  for (const branch of branches) addBranch(model.graph, branch);
}

function addBranch(graph: Graph, branch: Branch): void {
  const { output, inFeatures, outFeatures, hasGain, hasShift } = branch;
  const node = graph.producer(output);
  const x = node && inputOf(node);
  if (!node || x === undefined) {
    const what = node ? `${node.opType} ${node.name || output}, which takes no branch` : 'no layer of the model';
    throw new LoweringError('lowering/branch', `an adapter is for ${output}, ${what}`, { where: output });
  }
  const inputs: ValueInfo[] = [];
  const input = (tensor: Parameters<typeof branchInput>[1], dims: readonly (number | string)[]): string => {
    const name = branchInput(output, tensor);
    inputs.push({ name, type: { dtype: 'float32', dims } });
    return name;
  };
  const following = graph.nodes[graph.nodes.indexOf(node) + 1];
  const add = (opType: string, from: readonly string[], to?: string): string => {
    const made = to ?? graph.uniqueName(`${output}_branch`);
    graph.addNode({ opType, inputs: from, outputs: [made] }, { before: following });
    return made;
  };
  const rank = `rank of ${output}`;
  const a = input('a', [inFeatures, rank]);
  const b = input('b', [rank, outFeatures]);
  let own = graph.uniqueName(`${output}_base`);
  node.setOutput(0, own);
  if (hasGain) own = add('Mul', [own, input('gain', [outFeatures])]);
  if (hasShift) own = add('Add', [own, input('shift', [outFeatures])]);
  const low = x.isIndex ? add('Gather', [a, x.value]) : add('MatMul', [x.value, a]);
  add('Add', [own, add('MatMul', [low, b])], output);
  graph.setInputs([...graph.inputs, ...inputs]);
}

/** What a layer reads: numbers, or the indices of rows. */
function inputOf({ opType, inputs, outputs }: Node): { readonly value: string; readonly isIndex: boolean } | undefined {
  if (outputs.length !== 1) return undefined;
  if (opType === 'Gather' || opType === 'GatherBlockQuantized') return { value: inputs[1] ?? '', isIndex: true };
  return PRODUCTS.has(opType) ? { value: inputs[0] ?? '', isIndex: false } : undefined;
}

const PRODUCTS: ReadonlySet<string> = new Set([
  'MatMul',
  'Gemm',
  'FusedMatMul',
  'MatMulNBits',
  'DynamicQuantizeMatMul',
]);
