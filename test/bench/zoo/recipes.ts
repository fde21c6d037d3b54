import type { CompileOptions } from '@flotilla/compiler';

/** The built-in recipes, each as it comes: nothing is set by the data here. */
export const recipes: ReadonlyMap<string, Pick<CompileOptions, 'weights' | 'activations' | 'method'>> = new Map([
  ['fp32', { weights: 'fp32' }],
  ['fp16', { weights: 'fp16' }],
  ['int8', { weights: 'int8', activations: 'int8' }],
  ['int8-dynamic', { weights: 'int8', activations: 'dynamic' }],
  ['int4-rtn', { weights: 'int4', method: 'rtn' }],
  ['int4-hqq', { weights: 'int4', method: 'hqq' }],
  ['int4-gptq', { weights: 'int4', method: 'gptq' }],
  ['int4-awq', { weights: 'int4', method: 'awq' }],
  ['nf4', { weights: 'nf4' }],
  ['fp4', { weights: 'fp4' }],
]);

/** Recipes that look at calibration data. */
export const needsData = (recipe: string): boolean => ['int8', 'int4-gptq', 'int4-awq'].includes(recipe);
