import { z } from 'zod';
import { TensorReader } from '../analyze/read-tensors.ts';
import { analysisOf, type WeightFacts, weightFacts } from '../analyze/weight-facts.ts';
import { CompilerError } from '../errors.ts';
import { weightSite } from '../int4/weight-site.ts';
import { definePass } from '../pass.ts';

const linearOps = new Set(['Conv', 'ConvTranspose', 'Gemm', 'MatMul']);

/**
 * Looks at every float32 constant before anything is converted and refuses NaN by name, and infinity where it would be
 * multiplied. Elsewhere infinity is lawful: masks are made with it. What is remarkable about the weights of linear nodes
 * (outliers, dead or uneven channels, heavy tails) and what formats would lose of them goes into the report. Of models
 * over 512 MB only that much is read whole, and of models that are not run 16 MB, so that weights which stream are not read
 * twice: what converts them refuses NaN and infinity as well.
 * @throws {CompilerError} `compiler/weights`
 */
export const analyze = definePass({
  name: 'analyze',
  stage: 'analyze',
  options: z.strictObject({ allowNan: z.boolean().default(false) }),
  run(graph, { note, signal, keepAnalysis, unrun = false }, { allowNan }) {
    const facts: WeightFacts[] = [];
    const seen = new Set<string>();
    const reader = new TensorReader(unrun ? UNRUN_BYTES : undefined);
    for (const node of graph.walk()) {
      signal?.throwIfAborted();
      for (const name of node.inputs) {
        const tensor = seen.has(name) ? undefined : node.graph.constant(name);
        seen.add(name);
        if (tensor?.dtype !== 'float32' || tensor.byteLength < 8) continue;
        const read = reader.read(tensor);
        const isWeight = linearOps.has(node.opType);
        const index = firstUnlawful(read.values, isWeight);
        if (index < 0) {
          const site = isWeight ? weightSite(node.graph, node) : undefined;
          if (typeof site === 'object' && site.tensor === tensor) facts.push(weightFacts(site, read));
        } else if (allowNan) note(node, `weights hold ${read.values[index]} at ${index}`);
        else
          throw new CompilerError('compiler/weights', `${name} holds ${read.values[index]} at index ${index}`, {
            where: node.name || node.opType,
            hint: 'mend the model; a recipe can say allowNan: true of pass analyze',
          });
      }
    }
    keepAnalysis(analysisOf(facts, reader.sampledBytes));
    return graph;
  },
});

/** Of a model too large to be run. */
const UNRUN_BYTES = 16e6;

function firstUnlawful(values: Float32Array, isWeight: boolean): number {
  for (let i = 0; i < values.length; i++) {
    const value = values[i] ?? 0;
    if (Number.isNaN(value) || (isWeight && !Number.isFinite(value))) return i;
  }
  return -1;
}
