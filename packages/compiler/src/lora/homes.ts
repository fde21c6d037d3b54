import type { Graph, Node, Tensor } from '@flotilla/onnx';

/** A linear layer of the graph: where a module's factors may be added. */
export interface Home {
  readonly node: Node;
  /** The name that the node reads. */
  readonly value: string;
  /** The weight as it is stored. */
  readonly tensor: Tensor;
  /** True where the weight is stored `[in, out]`, as MatMul reads it. */
  readonly storedInOut: boolean;
  /** True where the node reads `[in, out]`. Differs from the above behind a `Transpose`. */
  readonly readInOut: boolean;
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** Module paths that the names point to: `model.layers.0.self_attn.q_proj`. */
  readonly paths: readonly string[];
}

/** Every MatMul and Gemm with a constant matrix, subgraphs included. */
export function findHomes(graph: Graph): readonly Home[] {
  const homes: Home[] = [];
  for (const node of graph.walk()) {
    const home = node.domain === '' ? homeOf(node) : undefined;
    if (home) homes.push(home);
  }
  return homes;
}

function homeOf(node: Node): Home | undefined {
  if (node.opType !== 'MatMul' && !(node.opType === 'Gemm' && node.float('alpha', 1) === 1)) return undefined;
  const value = node.inputs[1] ?? '';
  const direct = node.graph.constant(value);
  const transpose = direct ? undefined : node.graph.producer(value);
  const tensor = direct ?? (transpose?.opType === 'Transpose' ? behindTranspose(transpose) : undefined);
  if (tensor?.dims.length !== 2 || tensor.dtype !== 'float32') return undefined;
  const readInOut = node.opType === 'MatMul' || node.int('transB', 0) === 0;
  const storedInOut = direct ? readInOut : !readInOut;
  const [first = 0, second = 0] = tensor.dims;
  return {
    node,
    value,
    tensor,
    storedInOut,
    readInOut,
    inFeatures: storedInOut ? first : second,
    outFeatures: storedInOut ? second : first,
    paths: [pathOfNode(node.name), pathOfWeight(value), pathOfWeight(tensor.name)].filter((path) => path !== ''),
  };
}

function behindTranspose(transpose: Node): Tensor | undefined {
  return transpose.graph.constant(transpose.inputs[0] ?? '');
}

/** `/model/layers.0/self_attn/q_proj/MatMul` → `model.layers.0.self_attn.q_proj` */
function pathOfNode(name: string): string {
  return name.split('/').slice(0, -1).filter(Boolean).join('.');
}

/** `model.layers.0.self_attn.q_proj.weight` → `model.layers.0.self_attn.q_proj`; anonymous names give ''. */
function pathOfWeight(name: string): string {
  return /^(.+)\.weight$/.exec(name)?.[1] ?? '';
}
