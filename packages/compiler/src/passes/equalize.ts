import { type Graph, inferTypes } from '@flotilla/onnx';
import { z } from 'zod';
import { definePass } from '../pass.ts';
import { type Divisible, divisible } from './scale/divisible.ts';
import { inputPeaks, type LinearlyRead, linearlyRead, linearlyReadValues, outputPeaks } from './scale/readers.ts';
import { scaleInput } from './linear.ts';

/**
 * Cross-layer equalization: of two linear nodes with nothing but Relu, pooling and the like between, each channel is made
 * `s` times smaller where the first gives it and `s` times larger where the second reads it, with `s = √(r₁/r₂)` of the
 * channel's weight ranges `r₁` in the first and `r₂` in the second. Both then have one range, `√(r₁·r₂)`, and no channel
 * is lost beside a larger one. Goes over all pairs until no scale moves by more than `tolerance`, at most `rounds` times.
 * Clip and hard-swish are no such things: what they do depends on the scale.
 * @see Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction" (2019), §4.1, eq. 8–11
 */
export const equalize = definePass({
  name: 'equalize',
  stage: 'rewrite',
  options: z.strictObject({
    rounds: z.int().positive().default(20),
    tolerance: z.number().positive().default(1e-3),
    exclude: z.array(z.string()).default([]),
  }),
  run(graph, { note }, { rounds, tolerance, exclude }) {
    const equalized = new Set<string>();
    for (let round = 0; round < rounds; round++) {
      let moved = 0;
      for (const pair of pairsOf(graph)) {
        if (pair.read.readers.some(({ node }) => exclude.includes(node.name) || exclude.includes(node.opType)))
          continue;
        const change = equalizePair(pair);
        if (change > 0) equalized.add(pair.read.value);
        moved = Math.max(moved, change);
      }
      if (moved <= tolerance) break;
    }
    for (const value of equalized) {
      const [reader] = graph.consumers(value);
      if (reader) note(reader, 'its input channels were equalized with the linear node before', 'rewritten');
    }
    return graph;
  },
});

interface Pair {
  readonly read: LinearlyRead;
  readonly source: Divisible;
}

/** Each found only when its turn comes: a pair before may have replaced its weights. */
function* pairsOf(graph: Graph): Iterable<Pair> {
  const types = inferTypes(graph);
  for (const value of linearlyReadValues(graph)) {
    const read = linearlyRead(graph, value);
    const source = read && divisible({ graph, types, channels: read.channels }, value, read.axis);
    if (read && source?.linear) yield { read, source };
  }
}

/** @returns how far the scale that moved most is from 1, as |log s| */
function equalizePair({ read, source }: Pair): number {
  if (!source.linear) return 0;
  const [given, taken] = [outputPeaks(source.linear), inputPeaks(read)];
  let most = 0;
  const by = given.map((r1, channel) => {
    const r2 = taken[channel] ?? 0;
    // A dead channel has no range to share; NaN and infinity are for `analyze` to refuse.
    const scale = Math.sqrt(r1 / r2);
    if (!(r1 > 0 && r2 > 0 && scale > smallest && scale < 1 / smallest)) return 1;
    most = Math.max(most, Math.abs(Math.log(scale)));
    return scale;
  });
  if (most === 0) return 0;
  source.divide(by);
  for (const reader of read.readers) scaleInput(reader, by, undefined);
  return most;
}

/** Beyond this a channel is as good as dead, and its bias would outgrow int32. */
const smallest = 2 ** -10;
