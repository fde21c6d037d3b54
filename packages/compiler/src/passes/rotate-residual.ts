import { floats, type Tensor, tensorFromFloats } from '@flotilla/onnx';
import { dequantizeInt4, quantizeInt4, Rotation } from '@flotilla/quant';
import { z } from 'zod';
import { blockFor } from '../int4/blocks-of.ts';
import { definePass } from '../pass.ts';
import { residualStream, type ResidualStream, type StreamConstant } from '../rotation/residual-stream.ts';
import { setConstant } from './edit.ts';

/**
 * How much more the turned weights may err. Evened channels are worth a little: they also spare activations, and on the
 * 4 M language model perplexity fell by 0.4 % where the weights' own error was the same (README.md).
 */
const BEARABLE = 1.02;

/**
 * Turns the residual stream of an RMSNorm transformer by a random Hadamard matrix, which no channel stands out after. The
 * norms' gains go into the projections that read them; then turning every writer and every reader the other way leaves
 * what the model computes as it was, and costs nothing at run time. Where the stream is not one of sums of projections
 * between norms (a tied embedding, a LayerNorm), the graph stays.
 * @see Ashkboos et al. 2024, QuaRot, §3 (stage 1a); Ashkboos et al. 2024, SliceGPT, §3.1 on RMSNorm and rotations
 */
export const rotateResidual = definePass({
  name: 'rotate-residual',
  stage: 'rewrite',
  options: z.strictObject({
    /** auto: unless 4-bit blocks of the turned weights would err more, in the mean over all of them, than of those given. */
    when: z.enum(['auto', 'always', 'never']).default('auto'),
    seed: z.int().min(0).default(1),
    /** Weights that share a scale, for the comparison. */
    block: z.literal([16, 32, 64, 128, 256]).default(64),
  }),
  run(graph, { note, signal, unrun = false }, { when, seed, block }) {
    // All its weights are in memory for the choice, and what they compute would not be compared.
    if (when === 'never' || unrun) return graph;
    const stream = residualStream(graph);
    if (typeof stream === 'string') {
      const [node] = graph.nodes;
      if (when === 'always' && node) note(node, `the residual stream is not turned: ${stream}`);
      return graph;
    }
    const turned: { readonly at: StreamConstant; readonly w: Float32Array }[] = [];
    let [before, after] = [0, 0];
    const rotation = new Rotation(stream.channels, seed);
    const energy = channelEnergy(stream, undefined);
    const turnedEnergy = channelEnergy(stream, rotation);
    for (const { at, gain } of constantsOf(stream)) {
      signal?.throwIfAborted();
      const tensor = at.node.graph.constant(at.node.inputs[at.input] ?? '');
      if (!tensor) continue;
      const given = scaled(floats(tensor), tensor, at, gain);
      const w = rotate(given, tensor, at, rotation);
      turned.push({ at, w });
      if (tensor.dims.length < 2) continue;
      const reads = !stream.writers.includes(at);
      const inputs = reads ? energy.map((value, c) => value * (gain?.[c] ?? 1) ** 2) : undefined;
      before += blockError(floats(tensor), tensor, at, { block, inputs });
      after += blockError(w, tensor, at, { block, inputs: reads ? turnedEnergy : undefined });
    }
    const [embedding] = stream.writers;
    if (when === 'auto' && after > BEARABLE * before) {
      if (embedding) note(embedding.node, 'the residual stream is not turned: 4-bit blocks would err more');
      return graph;
    }
    for (const { at, w } of turned) setConstant(at.node, at.input, tensorFromFloats(dimsOf(at), w));
    for (const { norm } of stream.norms) {
      if (norm.gain) setConstant(norm.gain.node, norm.gain.input, onesLike(norm.gain));
    }
    if (embedding) note(embedding.node, 'the residual stream is turned by a random Hadamard matrix', 'rewritten');
    return graph;
  },
});

function dimsOf({ node, input }: Pick<StreamConstant, 'node' | 'input'>): readonly number[] {
  return node.graph.constant(node.inputs[input] ?? '')?.dims ?? [];
}

function onesLike(at: Pick<StreamConstant, 'node' | 'input'>) {
  const dims = dimsOf(at);
  return tensorFromFloats(dims, new Float32Array(dims[0] ?? 0).fill(1));
}

function* constantsOf(stream: ResidualStream): Iterable<{ at: StreamConstant; gain: Float32Array | undefined }> {
  for (const at of stream.writers) yield { at, gain: undefined };
  for (const { norm, readers } of stream.norms) {
    const tensor = norm.gain && norm.gain.node.graph.constant(norm.gain.node.inputs[norm.gain.input] ?? '');
    for (const at of readers) yield { at, gain: tensor && floats(tensor) };
  }
}

/** Elements before and behind the channel axis. */
function around({ dims }: Tensor, { axis }: StreamConstant): { outer: number; inner: number } {
  const product = (part: readonly number[]): number => part.reduce((all, dim) => all * dim, 1);
  return { outer: product(dims.slice(0, axis)), inner: product(dims.slice(axis + 1)) };
}

function scaled(w: Float32Array, tensor: Tensor, at: StreamConstant, gain: Float32Array | undefined): Float32Array {
  if (!gain) return w;
  const { inner } = around(tensor, at);
  return w.map((value, i) => value * (gain[Math.floor(i / inner) % gain.length] ?? 1));
}

function rotate(w: Float32Array, tensor: Tensor, at: StreamConstant, rotation: Rotation): Float32Array {
  const { outer, inner } = around(tensor, at);
  const { length } = rotation;
  const result = new Float32Array(w.length);
  const v = new Float64Array(length);
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < inner; i++) {
      const first = o * length * inner + i;
      for (let c = 0; c < length; c++) v[c] = w[first + c * inner] ?? 0;
      rotation.apply(v);
      for (let c = 0; c < length; c++) result[first + c * inner] = v[c] ?? 0;
    }
  }
  return result;
}

/** What a norm hands on in each channel, in the mean over the embedding's rows, which the stream begins with; 1 on average. */
function channelEnergy({ channels, writers }: ResidualStream, rotation: Rotation | undefined): Float64Array {
  const energy = new Float64Array(channels);
  const embedding = writers.find(({ node }) => node.opType === 'Gather');
  const tensor = embedding && embedding.node.graph.constant(embedding.node.inputs[0] ?? '');
  if (!embedding || !tensor) return energy.fill(1);
  const given = floats(tensor);
  const rows = rotation ? rotate(given, tensor, embedding, rotation) : given;
  for (const [i, value] of rows.entries()) energy[i % channels] = (energy[i % channels] ?? 0) + value * value;
  const mean = energy.reduce((sum, value) => sum + value, 0) / channels || 1;
  return energy.map((value) => value / mean);
}

/** Output vectors that are looked at: enough for a mean. */
const LOOKED_AT = 128;

/**
 * Squared error of 4-bit blocks, as a share of the weights' own square, both weighed by the inputs' energy. Blocks run
 * along the axis that is summed over, as the conversion has them.
 */
function blockError(
  w: Float32Array,
  { dims }: Tensor,
  at: StreamConstant,
  { block, inputs }: { readonly block: number; readonly inputs: Float64Array | undefined },
): number {
  const [first = 1, second = 1] = dims;
  // An embedding is cut along its channels, a projection along its inputs.
  const summed = at.input === 0 ? 1 : at.node.opType === 'Gemm' && at.node.int('transB', 0) !== 0 ? 1 : 0;
  const [cols, vectors] = summed === 1 ? [second, first] : [first, second];
  const count = Math.min(LOOKED_AT, vectors);
  const part = new Float32Array(count * cols);
  const weight = (k: number): number => inputs?.[k] ?? 1;
  for (let n = 0; n < count; n++) {
    const vector = Math.floor((n * vectors) / count);
    for (let k = 0; k < cols; k++) part[n * cols + k] = w[summed === 1 ? vector * cols + k : k * vectors + vector] ?? 0;
  }
  const options = { rows: count, cols, block: blockFor(cols, block) };
  const back = dequantizeInt4(quantizeInt4(part, options), options);
  let [error, energy] = [0, 0];
  for (let i = 0; i < part.length; i++) {
    const value = part[i] ?? 0;
    error += weight(i % cols) * (value - (back[i] ?? 0)) ** 2;
    energy += weight(i % cols) * value ** 2;
  }
  return energy > 0 ? error / energy : 0;
}
