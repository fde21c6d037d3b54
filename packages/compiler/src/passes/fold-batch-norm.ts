import { floats, type Node } from '@flotilla/onnx';
import { z } from 'zod';
import { definePass } from '../pass.ts';
import { floatConstant, handOn, soleReader } from './edit.ts';
import { linearNode, scaleOutput } from './linear.ts';

/**
 * Folds an inference-time `BatchNormalization` into the Conv, ConvTranspose or Gemm before it:
 * `w' = w · γ/√(σ² + ε)`, `b' = (b − μ) · γ/√(σ² + ε) + β` per output channel.
 * Stays where the product has other readers, weights are not constant, or nothing linear comes before.
 */
export const foldBatchNorm = definePass({
  name: 'fold-batch-norm',
  stage: 'rewrite',
  options: z.strictObject({}),
  run(graph, { note }) {
    for (const node of Array.from(graph.walk({ opType: 'BatchNormalization' }))) {
      const reason = fold(node);
      if (reason !== undefined) note(node, `kept: ${reason}`);
    }
    return graph;
  },
});

function fold(node: Node): string | undefined {
  const { graph } = node;
  const x = node.inputs[0] ?? '';
  if (node.int('training_mode', 0) !== 0) return 'in training mode';
  if (node.int('spatial', 1) !== 1) return 'normalizes each position on its own';
  const [gamma, beta, mean, variance] = [1, 2, 3, 4].map((index) => floatConstant(node, index));
  if (!gamma || !beta || !mean || !variance) return 'its statistics are not constants';
  const producer = graph.producer(x);
  const linear = producer && linearNode(producer);
  if (!linear || linear.shared || soleReader(graph, x) !== node)
    return 'nothing linear with constant weights only for it comes before';
  const [g, b, m, v] = [floats(gamma), floats(beta), floats(mean), floats(variance)];
  if (g.length !== linear.outputChannels) return 'its channels are not those of the node before';
  const epsilon = node.float('epsilon', 1e-5);
  const scale = g.map((value, c) => value / Math.sqrt((v[c] ?? 0) + epsilon));
  const shift = b.map((value, c) => value - (m[c] ?? 0) * (scale[c] ?? 0));
  scaleOutput(linear, scale, shift);
  handOn(node, x);
  return undefined;
}
