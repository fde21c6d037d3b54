import { elementCount, floats, type Graph, integers, type Model, type Node, type Tensor } from '@flotilla/onnx';

/** How a node's weight is held. */
export interface HeldWeight {
  readonly node: string;
  readonly op: string;
  /** `float32`, `int8 per channel`, `uint4 block 32`, `MatMulNBits 4 bits block 32` … */
  readonly format: string;
  /** Of the weight with its scales and zero points. */
  readonly bytes: number;
  readonly dims: readonly number[];
  /** The real numbers that it stands for; undefined where only a kernel knows. */
  values(): Float32Array | undefined;
}

const WITH_WEIGHTS: ReadonlySet<string> = new Set(['Conv', 'ConvTranspose', 'Gemm', 'MatMul', 'Gather', 'LSTM', 'GRU']);

/** The weights of a model's nodes, bodies included, in the graph's order. */
export function weightFormats({ graph }: Model): readonly HeldWeight[] {
  const found: HeldWeight[] = [];
  for (const node of graph.walk()) {
    const held = packed(node) ?? (WITH_WEIGHTS.has(node.opType) && node.domain === '' ? plain(node) : undefined);
    if (held) found.push(held);
  }
  return found;
}

/** Weights that only a kernel of ONNX Runtime reads. */
function packed(node: Node): HeldWeight | undefined {
  const isTable = node.opType === 'GatherBlockQuantized';
  if (node.domain !== 'com.microsoft' || !(isTable || /^MatMul(NBits|Bnb4)$/.test(node.opType))) return undefined;
  const tensors = node.inputs.flatMap((name) => (name === '' ? [] : (node.graph.constant(name) ?? [])));
  const bits = node.opType === 'MatMulBnb4' ? 4 : node.int('bits', 4);
  return {
    ...named(node),
    format: `${node.opType} ${bits} bits block ${node.int('block_size', isTable ? 128 : 0)}`,
    bytes: tensors.reduce((sum, { byteLength }) => sum + byteLength, 0),
    dims: [],
    values: () => undefined,
  };
}

function plain(node: Node): HeldWeight | undefined {
  const places = node.opType === 'Gather' ? [0] : node.opType === 'MatMul' ? [1, 0] : [1];
  for (const place of places) {
    const name = node.inputs[place] ?? '';
    const tensor = name === '' ? undefined : node.graph.constant(name);
    if (tensor) return isSmall(tensor) || !tensor.dtype.includes('float') ? undefined : asFloats(node, tensor);
    const reading = producerOf(node.graph, name);
    if (reading?.opType === 'DequantizeLinear') return asIntegers(node, reading);
  }
  return undefined;
}

/** Gathers that pick a dimension out of a shape, and the like. */
function isSmall(tensor: Tensor): boolean {
  return elementCount(tensor) < 64;
}

function asFloats(node: Node, tensor: Tensor): HeldWeight {
  const { dtype, byteLength, dims } = tensor;
  return { ...named(node), format: dtype, bytes: byteLength, dims, values: () => floats(tensor) };
}

function asIntegers(node: Node, reading: Node): HeldWeight | undefined {
  const [q, scale, zero] = reading.inputs.map((name) => (name === '' ? undefined : reading.graph.constant(name)));
  if (!q || !scale) return undefined;
  const block = reading.int('block_size', 0);
  const share = block > 0 ? `block ${block}` : elementCount(scale) > 1 ? 'per channel' : 'per tensor';
  return {
    ...named(node),
    format: `${q.dtype} ${share}`,
    bytes: q.byteLength + scale.byteLength + (zero?.byteLength ?? 0),
    dims: q.dims,
    values: () => dequantized(q, scale, zero, { axis: reading.int('axis', 1), block }),
  };
}

/** @see ONNX DequantizeLinear-21: one scale, one along the axis, or one for each block along it */
function dequantized(
  q: Tensor,
  scale: Tensor,
  zero: Tensor | undefined,
  { axis: given, block }: { readonly axis: number; readonly block: number },
): Float32Array {
  const axis = given < 0 ? given + q.dims.length : given;
  const length = q.dims[axis] ?? 1;
  const inner = q.dims.slice(axis + 1).reduce((all, dim) => all * dim, 1);
  const [numbers, scales] = [integers(q), floats(scale)];
  const zeros = zero ? integers(zero) : undefined;
  const blocks = block > 0 ? Math.ceil(length / block) : 1;
  const scaleOf = (i: number): number => {
    if (scales.length === 1) return 0;
    const along = Math.floor(i / inner) % length;
    if (block === 0) return along;
    return (Math.floor(i / inner / length) * blocks + Math.floor(along / block)) * inner + (i % inner);
  };
  return Float32Array.from(numbers, (value, i) => {
    const s = scaleOf(i);
    return (value - (zeros?.[s] ?? 0)) * (scales[s] ?? 0);
  });
}

function producerOf(graph: Graph, value: string): Node | undefined {
  for (let scope: Graph | undefined = graph; scope !== undefined; scope = scope.owner?.graph) {
    const node = scope.producer(value);
    if (node) return node;
  }
  return undefined;
}

function named(node: Node): { readonly node: string; readonly op: string } {
  return { node: node.name || (node.outputs[0] ?? ''), op: node.opType };
}
