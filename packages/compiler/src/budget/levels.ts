import type { Model } from '@flotilla/onnx';
import type { Recipe } from '../recipe.ts';
import { checkedStep } from '../recipe.ts';
import type { Candidate } from './measure.ts';
import { converted, type Reference } from './sensitivity.ts';
import type { Unit } from './units.ts';

/**
 * What each unit's noise falls by when its activations are not rounded to 8 bits on their way into 4-bit weights, all else
 * float: `accuracy_level` 1 instead of 4. 0 where that changes nothing.
 */
export async function levelGains(
  cleaned: Model,
  units: readonly Unit[],
  reference: Reference,
  { progress }: { readonly progress: (done: number, total: number) => void },
): Promise<readonly number[]> {
  const gains: number[] = [];
  for (const [done, { nodes }] of units.entries()) {
    progress(done, units.length);
    const model = await converted(cleaned, [checkedStep('convert-int4', { only: nodes, method: 'rtn', head: 'int4' })]);
    const rounded = await reference.noiseOf(model, { accuracyLevel: 4 });
    gains.push(Math.max(0, rounded - (await reference.noiseOf(model, { accuracyLevel: 1 }))));
  }
  return gains;
}

/** The candidate with float activations in the units that lose most by rounding: half of all that is lost, and all of it. */
export function withLevels(base: Candidate, units: readonly Unit[], gains: readonly number[]): readonly Candidate[] {
  const losing = units
    .map(({ nodes }, i) => ({ nodes, gain: nodes.some((node) => isFourBit(base.recipe, node)) ? (gains[i] ?? 0) : 0 }))
    .filter(({ gain }) => gain > 0)
    .toSorted((a, b) => b.gain - a.gain);
  const total = losing.reduce((sum, { gain }) => sum + gain, 0);
  let [count, sum] = [0, 0];
  while (sum < total / 2) sum += losing[count++]?.gain ?? 0;
  return [...new Set([count, losing.length])].filter(Boolean).map((some) => {
    const nodes = losing.slice(0, some).flatMap((unit) => unit.nodes);
    const name = `${base.name}, ${nodes.length} nodes with float activations`;
    return { name, recipe: inFloats(base.recipe, nodes), isSingle: false, levelsOf: base.name };
  });
}

/** Whether a recipe stores this node's weights in 4 bits, as far as it names nodes. */
function isFourBit({ passes }: Recipe, node: string): boolean {
  return passes.some(({ pass, options }) => {
    if (pass !== 'convert-int4') return false;
    const { only, int8 } = options as { readonly only?: readonly string[]; readonly int8: readonly string[] };
    return (only?.includes(node) ?? true) && !int8.includes(node);
  });
}

function inFloats(recipe: Recipe, floatActivations: readonly string[]): Recipe {
  const passes = recipe.passes.map((step) =>
    step.pass === 'convert-int4' ? checkedStep(step.pass, { ...(step.options as object), floatActivations }) : step,
  );
  return { name: 'mixed', passes };
}
