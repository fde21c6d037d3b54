import { builtInRecipe } from '../recipe.ts';
import type { Candidate } from './measure.ts';

/** The built-in recipes, always among the candidates: a mixture must not be worse than one of them. */
export function singleFormats(calibrates: boolean): readonly Candidate[] {
  const int4 = (block: number, symmetric: boolean): Candidate => ({
    name: `int4 by ${block}${symmetric ? ' symmetric' : ''}`,
    recipe: builtInRecipe('int4', undefined, { 'convert-int4': { block, symmetric } }),
    isSingle: true,
  });
  return [
    { name: 'fp32', recipe: builtInRecipe('fp32', undefined), isSingle: true },
    ...(calibrates ? [{ name: 'int8', recipe: builtInRecipe('int8', 'int8'), isSingle: true }] : []),
    { name: 'int8 dynamic', recipe: builtInRecipe('int8', 'dynamic'), isSingle: true },
    int4(32, false),
    int4(64, false),
    int4(128, false),
    int4(128, true),
  ];
}
