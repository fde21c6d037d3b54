import { readFile } from 'node:fs/promises';
import { CompilerError } from '../errors.ts';
import { builtInRecipe, parseRecipe, type Recipe } from '../recipe.ts';
import { readBasePack } from './base-pack.ts';
import type { CompileOptions } from './options.ts';

/** Weights that have blocks, and the pass that cuts them. */
const BLOCKED = new Map([
  ['int4', 'convert-int4'],
  ['nf4', 'convert-codebook'],
  ['fp4', 'convert-codebook'],
]);

/** Passes that give a layer other inputs than those an adapter was trained on. */
const MOVES_CHANNELS: ReadonlySet<string> = new Set(['rotate-residual', 'scale-channels', 'smooth-quant', 'equalize']);

/**
 * The recipe that `compile` would run: a file, or the built-in one for the weights with the options that name a part of it.
 * What is rebuilt on a base pack goes through that one's rewrites alone.
 * @throws {CompilerError} `compiler/recipe`, `compiler/lora-branch`, `compiler/lora-rebuild`
 */
export async function recipeOf(options: CompileOptions): Promise<Recipe> {
  if (options.basePack !== undefined) return (await readBasePack(options.basePack)).rewrites;
  const recipe = withKvCache(await weightsRecipe(options), options.kvCache);
  const { loraMode = 'merge' } = options;
  if (loraMode === 'merge') return recipe;
  if (options.recipe !== undefined) return checkedChannels(recipe, options.recipe, loraMode);
  return { ...recipe, passes: recipe.passes.filter(({ pass }) => !MOVES_CHANNELS.has(pass)) };
}

/** What a user's own recipe says is not left out in silence. */
function checkedChannels(recipe: Recipe, path: string, mode: string): Recipe {
  const moves = recipe.passes.find(({ pass, options }) => MOVES_CHANNELS.has(pass) && !isNever(options));
  if (!moves) return recipe;
  const message = `${path}: ${moves.pass} changes the channels that an adapter was trained beside`;
  throw new CompilerError(mode === 'rebuild' ? 'compiler/lora-rebuild' : 'compiler/lora-branch', message, {
    where: path,
    hint: 'leave it out of the recipe, or merge the adapter: --lora-mode merge',
  });
}

function isNever(options: unknown): boolean {
  return typeof options === 'object' && options !== null && 'when' in options && options.when === 'never';
}

async function weightsRecipe(options: CompileOptions): Promise<Recipe> {
  const { weights = 'int8', activations, block, method, head, recipe, fixShapes } = options;
  if (recipe !== undefined && (options.budget ?? []).length > 0)
    throw new CompilerError('compiler/budget', '--budget searches for the recipe itself, beside --recipe', {
      hint: 'leave one of both out',
    });
  if (recipe !== undefined) {
    if (fixShapes)
      throw new CompilerError(
        'compiler/recipe',
        '--fix-shape belongs to built-in recipes; a file has the pass fix-shape',
      );
    const text = await readFile(recipe, 'utf8').catch((cause: NodeJS.ErrnoException) => {
      const message = `cannot read ${recipe}: ${cause.code ?? cause.message}`;
      throw new CompilerError('compiler/recipe', message, { where: recipe, cause });
    });
    return parseRecipe(text);
  }
  const pass = BLOCKED.get(weights);
  if (block !== undefined && pass === undefined)
    throw new CompilerError('compiler/recipe', `--block belongs to int4, nf4 and fp4 weights, not to ${weights}`);
  if (method !== undefined && weights !== 'int4')
    throw new CompilerError('compiler/recipe', `--method belongs to int4 weights, not to ${weights}`);
  if (head !== undefined && weights !== 'int4')
    throw new CompilerError('compiler/recipe', `--head belongs to int4 weights, not to ${weights}`);
  const shapes = fixShapes && { 'fix-shape': { shapes: fixShapes } };
  if (fallsBack(options)) return builtInRecipe('int8', 'dynamic', shapes);
  const given = Object.entries({ block, method, head }).filter(([, value]) => value !== undefined);
  return builtInRecipe(weights, activations, {
    ...(pass !== undefined && { [pass]: Object.fromEntries(given) }),
    ...shapes,
    // AWQ's scales and a rotation both even channels out: one of them.
    ...(method === 'awq' && {
      'rotate-residual': { when: 'never' },
      'scale-channels': { when: 'always', ...(block !== undefined && { block }) },
    }),
  });
}

/** The pass comes last: the caches are no matter of the weights. */
function withKvCache(recipe: Recipe, kvCache = 'fp32'): Recipe {
  if (kvCache === 'fp32') return recipe;
  if (kvCache !== 'int8') throw new CompilerError('compiler/recipe', `--kv-cache is fp32 or int8, not ${kvCache}`);
  const { passes } = parseRecipe('name: kv-cache\npasses:\n  - pass: quantize-kv-cache\n');
  return { ...recipe, passes: [...recipe.passes, ...passes] };
}

/** Static int8 is the default, and needs calibration data: without any, activations are measured at run time. */
function fallsBack({ weights = 'int8', activations, data, recipe, basePack }: CompileOptions): boolean {
  const isGiven = [activations, data, recipe, basePack].some((option) => option !== undefined);
  return weights === 'int8' && !isGiven;
}

/** What a user who left out `--data` should know. */
export function recipeWarnings(options: CompileOptions): string[] {
  return fallsBack(options)
    ? ['no calibration data: int8 weights with activations measured at run time; --data gives static int8']
    : [];
}
