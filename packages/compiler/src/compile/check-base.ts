import type { Model } from '@flotilla/onnx';
import type { BranchPlan } from '../lora/branch.ts';
import { requantizationOf } from '../lora/requantization.ts';
import { refusal } from './base-pack.ts';

/** In decibels: 4 bits leave some 20 of a layer's weights. */
const SAME_LAYER = 6;

/**
 * Whether a pack's model is the quantized form of this one: another model's, or one whose layers were turned, would take
 * the factors without a word.
 * @param path of the pack
 * @throws {CompilerError} `compiler/lora-rebuild`
 */
export function checkBase(path: string, cleaned: Model, quantized: Model, plans: readonly BranchPlan[]): void {
  const hint = 'give the pack that was compiled of this model';
  const names = new Set(quantized.graph.nodes.flatMap(({ name, outputs }) => [name, outputs[0]]));
  const lost = plans.find(({ home: { node } }) => !names.has(node.name === '' ? node.outputs[0] : node.name));
  if (lost) throw refusal(path, `it has no layer ${lost.home.node.name || lost.module}`, hint);
  const worst = requantizationOf(cleaned.graph, quantized.graph)?.worst;
  if (!worst || worst.snrDb >= SAME_LAYER) return;
  const problem = `${worst.node} has other weights than the model (${worst.snrDb.toFixed(1)} dB signal to noise)`;
  throw refusal(path, problem, hint);
}
