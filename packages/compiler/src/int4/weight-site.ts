import type { Graph, Node, Tensor } from '@flotilla/onnx';

/** A constant weight at a node's input, and how it is cut into blocks. */
export interface WeightSite {
  readonly node: Node;
  /** Which input of the node. */
  readonly input: number;
  /** The constant's name. */
  readonly value: string;
  /** The node reads it through a Transpose, as a head does that is tied to an embedding. */
  readonly turned: boolean;
  readonly tensor: Tensor;
  /** Blocks run along this axis: the one that the node sums over, or an embedding's last. */
  readonly axis: number;
  /** Axis with one scale where the blocked one is too short: the output channels. */
  readonly channelAxis: number;
}

/** Product of the dims before the axis, its own length, and the product of those after it. */
export function sizesAt(dims: readonly number[], axis: number): { rows: number; cols: number; inner: number } {
  const product = (part: readonly number[]): number => part.reduce((all, dim) => all * dim, 1);
  return { rows: product(dims.slice(0, axis)), cols: dims[axis] ?? 1, inner: product(dims.slice(axis + 1)) };
}

/** Where the node holds a weight; else, in words, why it has none that can be converted. */
export function weightSite(graph: Graph, node: Node): WeightSite | string {
  switch (node.opType) {
    case 'MatMul': {
      const tensor = constantInput(graph, node, 1);
      if (tensor && tensor.dims.length >= 2) {
        const axis = tensor.dims.length - 2;
        return siteAt(node, 1, { tensor, axis, channelAxis: axis + 1 });
      }
      const turned = turnedConstant(graph, node);
      if (turned) return { node, input: 1, ...turned, turned: true, axis: 1, channelAxis: 0 };
      return constantInput(graph, node, 0)
        ? 'its constant stands on the left'
        : 'both factors are computed at run time';
    }
    case 'Gemm': {
      const tensor = constantInput(graph, node, 1);
      const axis = node.int('transB', 0);
      if (tensor?.dims.length === 2) return siteAt(node, 1, { tensor, axis, channelAxis: 1 - axis });
      return 'its weight is computed at run time';
    }
    case 'Conv': {
      const tensor = constantInput(graph, node, 1);
      if (tensor && tensor.dims.length >= 3) return siteAt(node, 1, { tensor, axis: 1, channelAxis: 0 });
      return 'its weight is computed at run time';
    }
    case 'Gather': {
      const tensor = constantInput(graph, node, 0);
      if (!tensor) return 'its table is computed at run time';
      if (tensor.dims.length !== 2 || node.int('axis', 0) !== 0) return 'not a lookup of rows in a matrix';
      return siteAt(node, 0, { tensor, axis: 1, channelAxis: 0 });
    }
    default:
      return `${node.opType} has no 4-bit form`;
  }
}

function siteAt(node: Node, input: number, at: Pick<WeightSite, 'tensor' | 'axis' | 'channelAxis'>): WeightSite {
  return { node, input, value: node.inputs[input] ?? '', turned: false, ...at };
}

/** Lets the node read another value in the weight's place. */
export function readInstead({ node, input, turned }: WeightSite, value: string): void {
  if (!turned) return node.setInput(input, value);
  const { graph } = node;
  // Not the Transpose that is there: it may stand before what it would now read.
  const output = graph.uniqueName(`${value}_turned`);
  const attributes = { perm: { ints: [1, 0] } };
  graph.addNode({ opType: 'Transpose', inputs: [value], outputs: [output], attributes }, { before: node });
  node.setInput(input, output);
}

function turnedConstant(graph: Graph, node: Node): { value: string; tensor: Tensor } | undefined {
  const transpose = graph.producer(node.inputs[1] ?? '');
  if (transpose?.opType !== 'Transpose' || transpose.ints('perm', [1, 0]).join() !== '1,0') return undefined;
  const tensor = constantInput(graph, transpose, 0);
  return tensor?.dims.length === 2 ? { value: transpose.inputs[0] ?? '', tensor } : undefined;
}

function constantInput(graph: Graph, node: Node, input: number): Tensor | undefined {
  const value = node.inputs[input];
  return value === undefined || value === '' ? undefined : graph.constant(value);
}
