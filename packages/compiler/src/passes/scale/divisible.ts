import { floats, type Graph, type Node, type NewTensor, type Tensor, type ValueType } from '@flotilla/onnx';
import { floatConstant, setConstant, soleReader, withConstant } from '../edit.ts';
import { type LinearNode, linearNode, scaleOutput } from '../linear.ts';

/** Where a value's channels lie: axis 1 of an image, the last axis of a matrix. */
export type ChannelAxis = 'first' | 'last';

/** A way to have a value's channels divided where it is made, at no cost when the model runs. */
export interface Divisible {
  /** The linear node at the root, where there is one; the gain of a normalization is the other kind of root. */
  readonly linear: LinearNode | undefined;
  /** @param by `[channels]`, positive and finite */
  divide(by: Float32Array): void;
}

interface Search {
  readonly graph: Graph;
  readonly types: ReadonlyMap<string, ValueType>;
  readonly channels: number;
}

/**
 * Looks upwards from a value for the constants that hold its channels' scale: through what commutes with a positive
 * factor per channel (Relu, LeakyRelu, pooling, sums with a constant, products), up to a linear node's weights or a
 * normalization's gain. Every value on the way must have one reader, or others would be divided too; the first value's
 * own readers are the caller's.
 * @returns undefined where there is no such place
 */
export function divisible(search: Search, value: string, axis: ChannelAxis): Divisible | undefined {
  const node = search.graph.producer(value);
  if (!node || search.graph.isOutput(value)) return undefined;
  const above = (name: string, itsAxis = axis): Divisible | undefined =>
    soleReader(search.graph, name) === node ? divisible(search, name, itsAxis) : undefined;
  const [x = ''] = node.inputs;
  const linear = linearNode(node);
  if (linear) return dividedLinear(linear, search.channels, axis);
  switch (node.opType) {
    case 'Relu':
    case 'LeakyRelu':
    case 'Identity':
      return node.domain === '' ? above(x) : undefined;
    case 'MaxPool':
    case 'AveragePool':
    case 'GlobalAveragePool':
      return axis === 'first' && node.outputs.length === 1 ? above(x) : undefined;
    case 'Flatten':
      // Behind global pooling every channel is one element.
      return search.graph.producer(x)?.opType === 'GlobalAveragePool' ? above(x, 'first') : undefined;
    case 'Add':
    case 'Sub':
      return dividedSum(search, node, axis, above);
    case 'Mul':
      return dividedProduct(search, node, axis, above);
    case 'LayerNormalization':
    case 'SimplifiedLayerNormalization':
    case 'RMSNormalization':
      return axis === 'last' ? dividedNorm(node, search.channels) : undefined;
    default:
      return undefined;
  }
}

type Above = (name: string) => Divisible | undefined;

function dividedLinear(linear: LinearNode, channels: number, axis: ChannelAxis): Divisible | undefined {
  const own: ChannelAxis = ['Conv', 'ConvTranspose'].includes(linear.node.opType) ? 'first' : 'last';
  if (linear.shared || own !== axis || linear.outputChannels !== channels) return undefined;
  return {
    linear,
    divide: (by) =>
      scaleOutput(
        linear,
        by.map((value) => 1 / value),
        undefined,
      ),
  };
}

/** `x + c`: both terms; `c` must lie along the channels. */
function dividedSum(search: Search, node: Node, axis: ChannelAxis, above: Above): Divisible | undefined {
  const parts = withConstant(node);
  if (!parts || !alongChannels(search, node, parts.constant, axis)) return undefined;
  const root = above(parts.other);
  if (!root) return undefined;
  return {
    linear: root.linear,
    divide: (by) => {
      root.divide(by);
      setConstant(node, parts.constantIndex, dividedTensor(parts.constant, by));
    },
  };
}

/** `x · c`: the constant if it lies along the channels, else x; of two activations either. */
function dividedProduct(search: Search, node: Node, axis: ChannelAxis, above: Above): Divisible | undefined {
  const parts = withConstant(node);
  if (!parts) return node.inputs[0] === node.inputs[1] ? undefined : firstOf(node.inputs, above);
  if (!alongChannels(search, node, parts.constant, axis))
    return parts.constant.dims.every((dim) => dim === 1) ? above(parts.other) : undefined;
  return {
    linear: undefined,
    divide: (by) => setConstant(node, parts.constantIndex, dividedTensor(parts.constant, by)),
  };
}

function firstOf(names: readonly string[], above: Above): Divisible | undefined {
  for (const name of names) {
    const found = above(name);
    if (found) return found;
  }
  return undefined;
}

/** Gain, and bias where there is one. */
function dividedNorm(node: Node, channels: number): Divisible | undefined {
  const indices = node.inputs[2] ? [1, 2] : [1];
  const constants = indices.map((index) => floatConstant(node, index));
  const fits = constants.every((tensor) => tensor?.dims.length === 1 && tensor.dims[0] === channels);
  if (!fits || node.outputs.length !== 1) return undefined;
  return {
    linear: undefined,
    divide: (by) => {
      for (const [i, tensor] of constants.entries())
        if (tensor) setConstant(node, indices[i] ?? 1, dividedTensor(tensor, by));
    },
  };
}

/** A constant with one number per channel, in the channels' place once it is broadcast. */
function alongChannels({ types, channels }: Search, node: Node, { dims }: Tensor, axis: ChannelAxis): boolean {
  if (dims.reduce((product, dim) => product * dim, 1) !== channels) return false;
  const rank = types.get(node.outputs[0] ?? '')?.dims?.length;
  if (axis === 'last') return dims.at(-1) === channels && (rank === undefined || dims.length <= rank);
  return rank !== undefined && dims.length <= rank && dims[dims.length - rank + 1] === channels;
}

function dividedTensor(tensor: Tensor, by: Float32Array): NewTensor {
  const bytes = new Uint8Array(floats(tensor).map((value, c) => value / (by[c] ?? 1)).buffer);
  return { dtype: 'float32', dims: tensor.dims, bytes };
}
