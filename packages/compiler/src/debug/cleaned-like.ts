import type { Model } from '@flotilla/onnx';
import { CompilerError } from '../errors.ts';
import { builtInRecipe, type Recipe, recipeOfReport } from '../recipe.ts';
import { findPass } from '../registry.ts';
import { applyRecipe, type CalibrationData } from '../runner.ts';

/**
 * The model as the compiler's clean-up leaves it: its values bear the names that a conversion keeps, and mean the same.
 * @param report what the compiler wrote into the pack: the recipe in it says which passes ran
 * Without a report there are two such: 4-bit recipes turn a transformer's residual stream, the others do not.
 * @returns none where the clean-up does not take the model: it is compared as it is then
 */
export async function cleanedLike(
  model: Model,
  report: unknown,
  data: CalibrationData,
  signal: AbortSignal | undefined,
): Promise<readonly Model[]> {
  const told = recipeOfReport(report);
  const recipes = told ? [told] : [builtInRecipe('int4', undefined), builtInRecipe('fp32', undefined)];
  const cleaned: Model[] = [];
  for (const recipe of recipes) {
    const one = await cleanedBy(recipe, model, data, signal);
    if (one) cleaned.push(one);
  }
  return cleaned;
}

async function cleanedBy(
  recipe: Recipe,
  model: Model,
  data: CalibrationData,
  signal: AbortSignal | undefined,
): Promise<Model | undefined> {
  const passes = recipe.passes.filter(({ pass }) => findPass(pass)?.stage === 'rewrite');
  try {
    const { cleaned } = await applyRecipe(model, { ...recipe, passes }, { calibrationData: data, signal });
    return cleaned;
  } catch (error) {
    // The data's faults are the user's to hear of; a pass that cannot take the model is no reason not to look at it.
    if (error instanceof CompilerError && !/calibration|data/.test(error.code)) return undefined;
    throw error;
  }
}
