import { floats, type Graph, type Node, type Tensor } from '@flotilla/onnx';
import { dequantizeInt4, quantizeInt4 } from '@flotilla/quant';
import { blockFor, diagonal } from './blocks-of.ts';
import type { WeightSite } from './weight-site.ts';
import { sizesAt } from './weight-site.ts';

/** Output vectors that a candidate is judged on: the loss is quadratic in the inputs. */
const LOOKED_AT = 48;

/** Exponents that are tried: 0 is no scaling. */
const EXPONENTS = Array.from({ length: 20 }, (_, i) => i / 20);

export interface ScaleOptions {
  readonly block: number;
  readonly symmetric: boolean;
  /** `Σ x·xᵀ` of the value that all the readers multiply, `[cols, cols]`. */
  readonly hessian: Float64Array;
}

/** Scales for a value's channels: each is divided by its own, and the readers' weights are multiplied by it. */
export interface ChannelScales {
  readonly scale: Float32Array;
  /** Squared error of the readers' outputs with them, as a share of that without. */
  readonly left: number;
}

/**
 * Scales `s = rms(x)^α`, with the α of 20 at which the readers' outputs err least when `W·diag(s)` is rounded to nearest
 * and `x / s` multiplies it: salient inputs get finer steps. Their size is the Hessian's diagonal where the paper takes
 * mean magnitudes.
 * @see Lin et al. 2023, AWQ, §3.2, equations 4 and 5
 */
export function searchChannelScales(readers: readonly WeightSite[], options: ScaleOptions): ChannelScales {
  const [first] = readers;
  const cols = first?.tensor.dims[first.axis] ?? 0;
  const rms = diagonal(options.hessian, cols).map(Math.sqrt);
  const samples = readers.map((site) => sampleRows(site));
  const lossOf = (scale: Float32Array): number =>
    samples.reduce((sum, rows) => sum + outputError(rows, scale, options), 0);
  let best: Float32Array = new Float32Array(cols).fill(1);
  const plain = lossOf(best);
  let least = plain;
  for (const exponent of EXPONENTS.slice(1)) {
    const scale = scalesAt(rms, exponent);
    const loss = lossOf(scale);
    if (loss < least) [best, least] = [scale, loss];
  }
  return { scale: best, left: plain > 0 ? least / plain : 1 };
}

/** `rms^α`, so that the largest and the smallest are each other's inverse. */
function scalesAt(rms: Float64Array, exponent: number): Float32Array {
  const scale = rms.map((value) => Math.max(value, 1e-12) ** exponent);
  const middle = Math.sqrt(
    scale.reduce((a, b) => Math.max(a, b), 0) * scale.reduce((a, b) => Math.min(a, b), Infinity),
  );
  return Float32Array.from(scale, (value) => value / middle);
}

/** Some output vectors of a weight, spread over all of them: `[count, cols]`. */
function sampleRows({ tensor, axis }: WeightSite): Float32Array {
  const { rows, cols, inner } = sizesAt(tensor.dims, axis);
  const w = floats(tensor);
  const vectors = rows * inner;
  const count = Math.min(LOOKED_AT, vectors);
  const sample = new Float32Array(count * cols);
  for (let n = 0; n < count; n++) {
    const vector = Math.floor((n * vectors) / count);
    const start = Math.floor(vector / inner) * cols * inner + (vector % inner);
    for (let k = 0; k < cols; k++) sample[n * cols + k] = w[start + k * inner] ?? 0;
  }
  return sample;
}

/** `Σ d·H·dᵀ` over the rows, d what rounding `w·s` and dividing by s leaves of w. */
function outputError(rows: Float32Array, scale: Float32Array, { block, symmetric, hessian }: ScaleOptions): number {
  const cols = scale.length;
  const options = { rows: rows.length / cols, cols, block: blockFor(cols, block), symmetric };
  const scaled = rows.map((value, i) => value * (scale[i % cols] ?? 1));
  const back = dequantizeInt4(quantizeInt4(scaled, options), options);
  let sum = 0;
  const d = new Float64Array(cols);
  for (let start = 0; start < rows.length; start += cols) {
    for (let k = 0; k < cols; k++) d[k] = (rows[start + k] ?? 0) - (back[start + k] ?? 0) / (scale[k] ?? 1);
    for (let i = 0; i < cols; i++) {
      let product = 0;
      const row = i * cols;
      for (let j = 0; j < cols; j++) product += (hessian[row + j] ?? 0) * (d[j] ?? 0);
      sum += (d[i] ?? 0) * product;
    }
  }
  return sum;
}

/** The constant that can take over the division of a value by its channels' scales. */
export interface ScaleHome {
  readonly node: Node;
  readonly input: number;
  readonly tensor: Tensor;
  /** Where the value's channels lie in it. */
  readonly axis: number;
}

/**
 * What makes the value, as far as its channels are scaled by constants: a norm's gain (and shift), or the projection
 * before, also through a product with something that is scaled by nothing (a gate) or a Relu.
 * @returns in words, why it cannot take scales over
 */
export function scaleHomes(graph: Graph, value: string): readonly ScaleHome[] | string {
  const node = graph.producer(value);
  if (!node || graph.isOutput(value)) return 'nothing in the graph hands its input over';
  switch (node.opType) {
    case 'Mul': {
      for (const input of [0, 1]) {
        const home = rowHome(node, input);
        if (home) return [home];
      }
      const inner = node.inputs.map((input) => soleHome(graph, input, node)).find((homes) => typeof homes !== 'string');
      return inner ?? 'neither factor of its input comes from a projection of its own';
    }
    case 'LayerNormalization':
    case 'SimplifiedLayerNormalization':
    case 'RMSNormalization': {
      const rows = [1, 2].filter((input) => (node.inputs[input] ?? '') !== '').map((input) => rowHome(node, input));
      const homes = rows.filter((home) => home !== undefined);
      return homes.length === rows.length ? homes : `the gain of ${node.name} is no constant of its own`;
    }
    case 'Relu':
      return soleHome(graph, node.inputs[0] ?? '', node);
    case 'MatMul':
    case 'Gemm':
      return soleHome(graph, value, undefined);
    default:
      return `its input comes from ${node.opType}, which no scale passes`;
  }
}

/** The projection that makes a value which nobody but `reader` reads. */
function soleHome(graph: Graph, value: string, reader: Node | undefined): readonly ScaleHome[] | string {
  const node = graph.producer(value);
  if (!node || (node.opType !== 'MatMul' && node.opType !== 'Gemm')) return 'its input comes from no projection';
  const readers = graph.consumers(value).filter(({ opType }) => opType !== 'Shape');
  if (reader && readers.some((other) => other !== reader)) return `${node.name} has other readers`;
  const axis = node.opType === 'Gemm' && node.int('transB', 0) !== 0 ? 0 : 1;
  const tensor = ownConstant(node, 1);
  if (tensor?.dims.length !== 2 || node.float('alpha', 1) !== 1 || node.float('beta', 1) !== 1)
    return `the weight of ${node.name} is shared, or not plain`;
  const homes: ScaleHome[] = [{ node, input: 1, tensor, axis }];
  if ((node.inputs[2] ?? '') === '') return homes;
  const bias = rowHome(node, 2);
  return bias ? [...homes, bias] : `the bias of ${node.name} is no constant row of its own`;
}

function rowHome(node: Node, input: number): ScaleHome | undefined {
  const tensor = ownConstant(node, input);
  return tensor?.dims.length === 1 ? { node, input, tensor, axis: 0 } : undefined;
}

/** A float32 constant that no other node reads. */
function ownConstant(node: Node, input: number): Tensor | undefined {
  const value = node.inputs[input] ?? '';
  const tensor = value === '' ? undefined : node.graph.constant(value);
  return tensor?.dtype === 'float32' && node.graph.consumers(value).length === 1 ? tensor : undefined;
}
