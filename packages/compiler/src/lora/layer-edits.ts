import { type DataType, floats, type Graph, type NewTensor, type Node, tensorFromFloats } from '@flotilla/onnx';
import { float32ToBfloat16, float32ToFloat16 } from '@flotilla/quant';
import type { Home } from './homes.ts';
import type { Site } from './sites.ts';

interface Edit {
  readonly readers: Site['readers'];
  readonly weights: Float32Array;
}

/** Weights on the way to the graph: several changes of one layer add up, and are written once. */
export class LayerEdits {
  readonly #graph: Graph;
  readonly #edits = new Map<Node, Edit>();
  readonly #biases = new Map<Node, { readonly home: Home; readonly bias: Float32Array }>();

  constructor(graph: Graph) {
    this.#graph = graph;
  }

  /** The layer's weights `[outFeatures, inFeatures × kernel]`, to be changed in place. */
  weightsOf({ readers }: Pick<Site, 'readers'>): Float32Array {
    const [home] = readers;
    const edit = this.#edits.get(home.node) ?? { readers, weights: readWeights(home) };
    this.#edits.set(home.node, edit);
    return edit.weights;
  }

  /** Of each reader of the layer its bias `[outFeatures]`, zeros where it has none, to be changed in place. */
  biasesOf(readers: readonly Home[]): readonly Float32Array[] {
    return readers.map((home) => {
      const bias = home.bias ? floats(home.bias.tensor).slice() : new Float32Array(home.outFeatures);
      const edit = this.#biases.get(home.node) ?? { home, bias };
      this.#biases.set(home.node, edit);
      return edit.bias;
    });
  }

  /** Readers outside the module (a tied embedding) keep the old weights: each named reader gets the new ones. */
  write(): void {
    for (const { readers, weights } of this.#edits.values()) {
      const [home] = readers;
      const name = this.#graph.uniqueName(`${home.value}_merged`);
      this.#graph.addInitializer(name, toRead(home, weights));
      for (const { node, input } of readers) node.setInput(input, name);
    }
    for (const { home, bias } of this.#biases.values()) writeBias(home, bias);
  }
}

/** As `[outFeatures, inFeatures × kernel]`, a copy. */
export function readWeights({ tensor, storedInOut, inFeatures, outFeatures }: Home): Float32Array {
  const stored = floats(tensor);
  return storedInOut ? transpose(stored, inFeatures, outFeatures) : stored.slice();
}

/** @param values row-major `[rows, cols]` */
export function transpose(values: Float32Array, rows: number, cols: number): Float32Array {
  const turned = new Float32Array(values.length);
  for (let i = 0; i < rows; i++) for (let j = 0; j < cols; j++) turned[j * rows + i] = values[i * cols + j] ?? 0;
  return turned;
}

function toRead({ readInOut, inFeatures, outFeatures, kernel, dtype }: Home, weights: Float32Array): NewTensor {
  const dims = readInOut ? [inFeatures, outFeatures] : [outFeatures, inFeatures, ...kernel];
  return tensorOf(dims, readInOut ? transpose(weights, outFeatures, inFeatures) : weights, dtype);
}

/** @param dtype a floating-point type */
export function tensorOf(dims: readonly number[], values: Float32Array, dtype: DataType): NewTensor {
  const bytesOf = ({ buffer }: { readonly buffer: ArrayBufferLike }): Uint8Array => new Uint8Array(buffer);
  switch (dtype) {
    case 'float16':
      return { dtype, dims, bytes: bytesOf(float32ToFloat16(values)) };
    case 'bfloat16':
      return { dtype, dims, bytes: bytesOf(float32ToBfloat16(values)) };
    case 'float64':
      return { dtype, dims, bytes: bytesOf(Float64Array.from(values)) };
    default:
      return tensorFromFloats(dims, values);
  }
}

function writeBias(home: Home, bias: Float32Array): void {
  const { node, dtype } = home;
  const { graph } = node;
  const name = graph.uniqueName(`${home.bias?.tensor.name ?? home.value}_merged_bias`);
  graph.addInitializer(name, tensorOf(biasDims(home, bias.length), bias, dtype));
  if (home.bias) home.bias.node.setInput(home.bias.input, name);
  else if (node.opType === 'Gemm' || node.opType === 'Conv') node.setInput(2, name);
  else addAfter(node, name);
}

function biasDims({ bias }: Home, length: number): readonly number[] {
  return bias?.tensor.dims ?? [length];
}

/** A product without a bias gets an Add behind it. */
function addAfter(node: Node, bias: string): void {
  const { graph } = node;
  const [output = ''] = node.outputs;
  const product = graph.uniqueName(`${output}_product`);
  node.setOutput(0, product);
  const following = graph.nodes[graph.nodes.indexOf(node) + 1];
  graph.addNode({ opType: 'Add', inputs: [product, bias], outputs: [output] }, { before: following });
}
