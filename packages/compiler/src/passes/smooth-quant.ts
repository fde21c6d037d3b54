import { cloneModel, type Graph, inferTypes, tensorFromInts, type ValueType } from '@flotilla/onnx';
import type { TensorValue } from '@flotilla/runtime';
import { z } from 'zod';
import { Probe } from '../calibrate/probe.ts';
import { CompilerError } from '../errors.ts';
import { definePass, type PassContext } from '../pass.ts';
import { scaleInput } from './linear.ts';
import { type Divisible, divisible } from './scale/divisible.ts';
import { inputPeaks, type LinearlyRead, linearlyRead, linearlyReadValues } from './scale/readers.ts';

/**
 * SmoothQuant: transformers have a few activation channels far larger than the rest, which cost all others their steps.
 * Each channel of what a MatMul or Gemm reads is divided by `s = max|x|^α / max|w|^(1−α)`, its weights multiplied by it,
 * so that part of the difficulty moves into the weights. The division goes into the gain of the normalization before (or
 * its linear node, or one factor of a gated product); values without such a place stay as they are.
 * Maxima of activations are taken over `samples` calibration samples; α = 0.5 is the paper's default.
 * @throws {CompilerError} `compiler/calibration` where there are no samples
 * @see Xiao et al., "SmoothQuant" (2022), eq. 4
 */
export const smoothQuant = definePass({
  name: 'smooth-quant',
  stage: 'rewrite',
  options: z.strictObject({
    alpha: z.number().min(0).max(1).default(0.5),
    samples: z.int().positive().default(32),
    exclude: z.array(z.string()).default([]),
  }),
  async run(graph, context, { alpha, samples, exclude }) {
    if (!context.samples)
      throw new CompilerError('compiler/calibration', 'smooth-quant needs calibration data', { hint: 'give --data' });
    const search = { graph, types: inferTypes(graph), exclude };
    const values = linearlyReadValues(graph).filter((value) => siteOf(search, value));
    if (values.length === 0) return graph;
    const peaks = await activationPeaks(graph, values, context, samples);
    for (const [value, x] of peaks) {
      // Found anew: what one site multiplied, the next may divide.
      const site = siteOf(search, value);
      if (!site) continue;
      const by = smoothing(x, inputPeaks(site.read), alpha);
      site.source.divide(by);
      for (const reader of site.read.readers) {
        scaleInput(reader, by, undefined);
        context.note(reader.node, 'large channels of its input were made smaller, their weights larger', 'rewritten');
      }
    }
    return graph;
  },
});

interface Site {
  readonly read: LinearlyRead;
  readonly source: Divisible;
}

interface Search {
  readonly graph: Graph;
  readonly types: ReadonlyMap<string, ValueType>;
  readonly exclude: readonly string[];
}

/** A value that matrices multiply, with its place for the division. */
function siteOf({ graph, types, exclude }: Search, value: string): Site | undefined {
  const read = linearlyRead(graph, value);
  if (read?.axis !== 'last') return undefined;
  if (read.readers.some(({ node }) => exclude.includes(node.name) || exclude.includes(node.opType))) return undefined;
  const source = divisible({ graph, types, channels: read.channels }, value, 'last');
  return source && { read, source };
}

/** Largest |x| by channel, of each value. */
async function activationPeaks(
  graph: Graph,
  values: readonly string[],
  context: PassContext,
  samples: number,
): Promise<ReadonlyMap<string, Float32Array>> {
  const model = cloneModel(graph.model);
  const probe = new Probe(model.graph);
  const first = probe.constant(tensorFromInts('int64', [1], [0]));
  const peaks = new Map<string, Float32Array>();
  const names = new Map<string, string>();
  for (const value of values) {
    const channels = linearlyRead(graph, value)?.channels ?? 0;
    peaks.set(value, new Float32Array(channels));
    const rows = probe.add('Reshape', [value, probe.constant(tensorFromInts('int64', [2], [-1, channels]))]);
    names.set(value, probe.add('ReduceMax', [probe.add('Abs', [rows]), first], { keepdims: { int: 0 } }));
  }
  model.graph.setOutputs([...names.values()].map((name) => ({ name, type: undefined })));
  model.graph.removeDead();
  const session = await context.open(model, { optimization: 'basic' });
  let count = 0;
  try {
    for await (const feeds of context.samples?.() ?? []) {
      context.signal?.throwIfAborted();
      const found = await session.run(feeds);
      for (const [value, name] of names) raise(peaks.get(value), found[name]);
      context.progress(++count, samples);
      if (count === samples) break;
    }
  } finally {
    await session.close();
  }
  if (count === 0)
    throw new CompilerError('compiler/calibration', 'the calibration set is empty', {
      hint: 'give --data with samples',
    });
  return peaks;
}

function raise(peaks: Float32Array | undefined, found: TensorValue | undefined): void {
  if (!peaks || found?.dtype !== 'float32') return;
  for (let c = 0; c < peaks.length; c++) peaks[c] = Math.max(peaks[c] ?? 0, found.data[c] ?? 0);
}

/** Eq. 4. A channel that is always 0, or whose weights are, is left alone. */
function smoothing(x: Float32Array, w: Float32Array, alpha: number): Float32Array {
  return x.map((peak, c) => {
    const scale = peak ** alpha / (w[c] ?? 0) ** (1 - alpha);
    return peak > 0 && scale > 1e-5 && scale < 1e5 ? scale : 1;
  });
}
