import { readFile } from 'node:fs/promises';
import { CompilerError } from '../errors.ts';
import { builtInRecipe, parseRecipe, type Recipe } from '../recipe.ts';
import type { CompileOptions } from './options.ts';

const later = new Map([
  ['nf4', 'nf4 weights come with a later release: int4 has the same size'],
  ['fp4', 'fp4 weights come with a later release: int4 has the same size'],
  ['fp16', 'fp16 weights come with a later release'],
  ['hqq', 'the method hqq comes with a later release: rtn is there'],
  ['gptq', 'the method gptq comes with a later release: rtn is there'],
  ['awq', 'the method awq comes with a later release: rtn is there'],
]);

/**
 * The recipe that `compile` would run: a file, or the built-in one for the weights with the options that name a part of it.
 * @throws {CompilerError} `compiler/recipe`; `compiler/not-yet` for formats and methods of later releases
 */
export async function recipeOf(options: CompileOptions): Promise<Recipe> {
  const { weights = 'int8', activations, block, method, recipe } = options;
  if (recipe !== undefined) {
    const text = await readFile(recipe, 'utf8').catch((cause: NodeJS.ErrnoException) => {
      const message = `cannot read ${recipe}: ${cause.code ?? cause.message}`;
      throw new CompilerError('compiler/recipe', message, { where: recipe, cause });
    });
    return parseRecipe(text);
  }
  for (const choice of [weights, method ?? '']) {
    const why = later.get(choice);
    if (why !== undefined) throw new CompilerError('compiler/not-yet', why);
  }
  if (weights !== 'int4' && (block !== undefined || method !== undefined)) {
    throw new CompilerError('compiler/recipe', `--block and --method belong to int4 weights, not to ${weights}`);
  }
  if (fallsBack(options)) return builtInRecipe('int8', 'dynamic');
  const int4 = { ...(block !== undefined && { block }), ...(method !== undefined && { method }) };
  return builtInRecipe(weights, activations, { 'convert-int4': int4 });
}

/** Static int8 is the default, and needs calibration data: without any, activations are measured at run time. */
function fallsBack({ weights = 'int8', activations, data, recipe }: CompileOptions): boolean {
  return weights === 'int8' && activations === undefined && data === undefined && recipe === undefined;
}

/** What a user who left out `--data` should know. */
export function recipeWarnings(options: CompileOptions): string[] {
  return fallsBack(options)
    ? ['no calibration data: int8 weights with activations measured at run time; --data gives static int8']
    : [];
}
