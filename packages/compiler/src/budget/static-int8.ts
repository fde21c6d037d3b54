import type { Model } from '@flotilla/onnx';
import { linearNode } from '../passes/linear.ts';
import { nodeKey } from '../node-key.ts';
import { builtInRecipe, checkedStep, type Recipe } from '../recipe.ts';
import { applyRecipe, type CalibrationData } from '../runner.ts';
import type { Reference } from './sensitivity.ts';
import type { Unit } from './units.ts';

/** Enough for ranges that a ranking needs. */
const SAMPLES = 8;

interface StaticOptions {
  readonly calibrationData: CalibrationData;
  readonly signal?: AbortSignal | undefined;
  readonly progress: (done: number, total: number) => void;
}

/** The noise of each unit alone in static int8, activations included; 0 where it has no integer form. */
export async function staticNoises(
  cleaned: Model,
  units: readonly Unit[],
  reference: Reference,
  { calibrationData, signal, progress }: StaticOptions,
): Promise<readonly number[]> {
  const { graph } = cleaned;
  const linear = [...graph.nodes].filter((node) => linearNode(node)).map((node) => nodeKey(graph, node));
  const noises: number[] = [];
  for (const [done, { nodes }] of units.entries()) {
    progress(done, units.length);
    const exclude = linear.filter((name) => !nodes.includes(name));
    const passes = [
      checkedStep('calibrate', { samples: SAMPLES, fewest: 0 }),
      checkedStep('quantize-int8-static', { exclude }),
    ];
    const { model } = await applyRecipe(cleaned, { name: 'sensitivity', passes }, { calibrationData, signal });
    noises.push(await reference.noiseOf(model));
  }
  return noises;
}

/** Static int8 but for some nodes, which compute in float with weights stored in int8. */
export function staticExcept(nodes: readonly string[]): Recipe {
  const { passes } = builtInRecipe('int8', 'int8', { 'quantize-int8-static': { exclude: nodes } });
  return {
    name: 'mixed',
    passes: [...passes, checkedStep('convert-int4', { only: nodes, int8: nodes, method: 'rtn' })],
  };
}
