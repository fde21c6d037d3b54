import type { DataType, Graph, Node, Tensor } from '@flotilla/onnx';
import { pathsOf } from './paths.ts';

/**
 * A layer of the graph: where a module's weights lie. Its weights are thought of as `[outFeatures, inFeatures × kernel]`;
 * an embedding is the linear layer of one-hot rows.
 */
export interface Home {
  readonly node: Node;
  /** Which input of the node reads the weights. */
  readonly input: number;
  /** The name that the node reads. */
  readonly value: string;
  /** The weights as they are stored, behind whatever `Transpose` and `Cast` stand before the node. */
  readonly tensor: Tensor;
  /** True where the weights are stored `[in, out]`, as MatMul reads them and an embedding is. */
  readonly storedInOut: boolean;
  /** True where the node reads `[in, out]`. Differs from the above behind a `Transpose`. */
  readonly readInOut: boolean;
  /** The type that the node reads. Differs from the stored one behind a `Cast`. */
  readonly dtype: DataType;
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** Lengths of the kernel's sides; empty for anything but a convolution. */
  readonly kernel: readonly number[];
  /** Of a convolution; else 1. */
  readonly groups: number;
  readonly bias: BiasSlot | undefined;
  /** Module paths that the names point to, the surest first: `model.layers.0.self_attn.q_proj`. */
  readonly paths: readonly string[];
}

/** Where a layer's bias lies. */
export interface BiasSlot {
  readonly node: Node;
  readonly input: number;
  readonly tensor: Tensor;
}

/** Every MatMul, Gemm, convolution and row lookup with constant weights, subgraphs included. */
export function findHomes(graph: Graph): readonly Home[] {
  const homes: Home[] = [];
  for (const node of graph.walk()) {
    const home = homeOf(node);
    if (home) homes.push(home);
  }
  return homes;
}

type Layer = 'linear' | 'convolution' | 'embedding';

function homeOf(node: Node): Home | undefined {
  const layer = layerOf(node);
  if (layer === undefined) return undefined;
  const input = layer === 'embedding' ? 0 : 1;
  const value = node.inputs[input] ?? '';
  const stored = behind(node.graph, value);
  if (!stored || !FLOATS.has(stored.tensor.dtype)) return undefined;
  const { tensor, transposed } = stored;
  if (layer === 'convolution' ? tensor.dims.length < 3 || transposed : tensor.dims.length !== 2) return undefined;
  const isTransB = node.int('transB', 0) !== 0;
  const readInOut = layer === 'embedding' || (layer === 'linear' && !isTransB);
  const storedInOut = readInOut !== transposed;
  const [first = 0, second = 0, ...kernel] = tensor.dims;
  const bias = layer === 'embedding' ? undefined : biasOf(node, first, second);
  return {
    node,
    input,
    value,
    tensor,
    storedInOut,
    readInOut,
    dtype: stored.dtype,
    inFeatures: storedInOut ? first : second,
    outFeatures: storedInOut ? second : first,
    kernel,
    groups: node.int('group', 1),
    bias,
    paths: pathsOf(node, [value, tensor.name], bias?.tensor.name),
  };
}

const FLOATS: ReadonlySet<DataType> = new Set(['float32', 'float16', 'bfloat16', 'float64']);

function layerOf(node: Node): Layer | undefined {
  if (node.domain === 'com.microsoft') return node.opType === 'FusedMatMul' && isPlain(node) ? 'linear' : undefined;
  if (node.domain !== '') return undefined;
  switch (node.opType) {
    case 'MatMul':
      return 'linear';
    case 'Gemm':
      return isPlain(node) && node.float('beta', 1) === 1 ? 'linear' : undefined;
    case 'Conv':
      return 'convolution';
    case 'Gather':
      return node.int('axis', 0) === 0 ? 'embedding' : undefined;
    default:
      return undefined;
  }
}

/** A product that nothing scales or turns on the side of the activations. */
function isPlain(node: Node): boolean {
  const turned = ['transA', 'transBatchA', 'transBatchB'].some((name) => node.int(name, 0) !== 0);
  return node.float('alpha', 1) === 1 && !turned;
}

/** The constant behind casts and transposes of a matrix. */
function behind(
  graph: Graph,
  value: string,
): { readonly tensor: Tensor; readonly transposed: boolean; readonly dtype: DataType } | undefined {
  const tensor = graph.constant(value);
  if (tensor) return { tensor, transposed: false, dtype: tensor.dtype };
  const node = graph.producer(value);
  if (node?.domain !== '') return undefined;
  const source = node.inputs[0] ?? '';
  if (node.opType === 'Transpose') {
    const found = behind(node.graph, source);
    const isSwap = found?.tensor.dims.length === 2 && node.ints('perm', [1, 0]).join() === '1,0';
    return found && isSwap ? { ...found, transposed: !found.transposed } : undefined;
  }
  const target = node.opType === 'Cast' ? CASTS.get(node.int('to', 0)) : undefined;
  const found = target === undefined ? undefined : behind(node.graph, source);
  return found && target !== undefined ? { ...found, dtype: target } : undefined;
}

/** @see ONNX TensorProto.DataType */
const CASTS: ReadonlyMap<number, DataType> = new Map([
  [1, 'float32'],
  [10, 'float16'],
  [11, 'float64'],
  [16, 'bfloat16'],
]);

/** The third input, or what the only reader of a product adds to it. */
function biasOf(node: Node, ...lengths: readonly number[]): BiasSlot | undefined {
  if (node.opType === 'Gemm' || node.opType === 'Conv') return slot(node, 2, lengths);
  const [output = ''] = node.outputs;
  const [reader, ...others] = node.graph.consumers(output);
  if (!reader || others.length > 0 || reader.opType !== 'Add' || reader.domain !== '') return undefined;
  return slot(reader, reader.inputs[0] === output ? 1 : 0, lengths);
}

function slot(node: Node, input: number, lengths: readonly number[]): BiasSlot | undefined {
  const tensor = node.graph.constant(node.inputs[input] ?? '');
  const fits = tensor?.dims.length === 1 && lengths.includes(tensor.dims[0] ?? 0) && FLOATS.has(tensor.dtype);
  return tensor && fits ? { node, input, tensor } : undefined;
}
