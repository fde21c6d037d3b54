import { floats, type Graph } from '@flotilla/onnx';
import { floatConstant } from '../passes/edit.ts';
import { rmsNorms, type RmsNorm } from '../rotation/rms-norms.ts';
import type { WeightSite } from './weight-site.ts';

/** Multiplications of float64 in JavaScript that a table's rounding may take: some seconds. */
const MOST_WORK = 2 ** 31;

/**
 * What an error in each channel of an embedding costs the layers that read it first: `Σ g·W·Wᵀ·g` over the projections
 * behind the RMSNorm of the looked-up rows, g the norm's gain. Known from the weights alone: with it GPTQ's walk needs no
 * data. Undefined where no such norm reads the rows, where others read the table too (a tied head), or where the table is
 * too large for the walk.
 * @param graph the float one: of the site's own, readers may be converted already
 * @returns `[channels, channels]`, row-major
 */
export function readersGram(graph: Graph, { node, input, tensor }: WeightSite): Float64Array | undefined {
  const [vocabulary = 0, channels = 0] = tensor.dims;
  const isPlain = node.opType === 'Gather' && node.graph.owner === undefined;
  if (!isPlain || graph.consumers(node.inputs[input] ?? '').length > 1) return undefined;
  if (vocabulary * channels ** 2 > MOST_WORK) return undefined;
  const norm = rmsNorms(graph).find(({ x }) => x === node.outputs[0]);
  if (!norm) return undefined;
  const gain = gainOf(norm);
  const gram = new Float64Array(channels * channels);
  let isRead = false;
  for (const reader of graph.consumers(norm.output)) {
    const product = reader.opType === 'MatMul' || (reader.opType === 'Gemm' && reader.int('transA', 0) === 0);
    const weight = product && reader.inputs[0] === norm.output ? floatConstant(reader, 1) : undefined;
    if (weight?.dims.length !== 2) continue;
    const turned = reader.opType === 'Gemm' && reader.int('transB', 0) !== 0;
    if (weight.dims[turned ? 1 : 0] !== channels) continue;
    addGram(gram, turned ? transpose(floats(weight), channels) : floats(weight), gain);
    isRead = true;
  }
  return isRead ? gram : undefined;
}

function gainOf({ gain }: RmsNorm): Float32Array | undefined {
  const tensor = gain && floatConstant(gain.node, gain.input);
  return tensor && floats(tensor);
}

/** Adds `g·W·Wᵀ·g`. @param w `[channels, outputs]` */
function addGram(gram: Float64Array, w: Float32Array, gain: Float32Array | undefined): void {
  const channels = Math.sqrt(gram.length);
  const outputs = w.length / channels;
  for (let i = 0; i < channels; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = 0;
      for (let o = 0; o < outputs; o++) sum += (w[i * outputs + o] ?? 0) * (w[j * outputs + o] ?? 0);
      sum *= (gain?.[i] ?? 1) * (gain?.[j] ?? 1);
      gram[i * channels + j] = (gram[i * channels + j] ?? 0) + sum;
      if (i !== j) gram[j * channels + i] = (gram[j * channels + i] ?? 0) + sum;
    }
  }
}

/** `[rows, columns]` → `[columns, rows]` */
function transpose(w: Float32Array, columns: number): Float32Array {
  const rows = w.length / columns;
  return Float32Array.from({ length: w.length }, (_, i) => w[(i % rows) * columns + Math.floor(i / rows)] ?? 0);
}
