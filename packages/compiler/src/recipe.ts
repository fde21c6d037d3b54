import { isDeepYaml } from '@flotilla/boards';
import { readFileSync } from 'node:fs';
import { parseDocument } from 'yaml';
import { z } from 'zod';
import { CompilerError } from './errors.ts';
import { nearest } from './nearest.ts';
import { findPass, passNames } from './registry.ts';

/** An ordered list of passes with checked options. */
export interface Recipe {
  readonly name: string;
  readonly passes: readonly RecipeStep[];
}

export interface RecipeStep {
  readonly pass: string;
  /** As the pass's schema returned them, defaults filled in. */
  readonly options: unknown;
}

const builtInNames = [
  'clean-up',
  'clean',
  'int8',
  'int8-dynamic',
  'int8-weights',
  'int4',
  'nf4',
  'fp4',
  'fp16',
  'fp32',
] as const;
type BuiltInName = (typeof builtInNames)[number];

const document = z.strictObject({
  name: z.string().min(1),
  passes: z.array(z.looseObject({})).max(200),
});

/**
 * Reads a recipe: `name`, and `passes`, each `{ pass: NAME, ...options }` or `{ recipe: NAME }` (a built-in one, in
 * place). No aliases, no tags, no duplicate keys.
 * @throws {CompilerError} `compiler/recipe`, with the near name for an unknown pass or option
 */
export function parseRecipe(text: string): Recipe {
  return expand(readYaml(text, 'recipe'), 0);
}

/**
 * The recipe behind `--weights` and `--activations`. `overrides` replace options of the passes they name.
 * @throws {CompilerError} `compiler/recipe` for a pair that no recipe serves
 */
export function builtInRecipe(
  weights: string,
  activations: string | undefined,
  overrides: { readonly [pass: string]: { readonly [option: string]: unknown } } = {},
): Recipe {
  const name = builtInName(weights, activations);
  const recipe = loadBuiltIn(name, 0);
  return {
    name,
    passes: recipe.passes.map((step) => {
      const override = Object.entries(overrides).find(([pass]) => pass === step.pass)?.[1];
      return override === undefined ? step : checkedStep(step.pass, { ...(step.options as object), ...override });
    }),
  };
}

/** The recipe in a report that the compiler wrote; undefined where it has none that is known here. */
export function recipeOfReport(report: unknown): Recipe | undefined {
  if (typeof report !== 'object' || report === null || !('recipe' in report)) return undefined;
  if (typeof report.recipe !== 'string') return undefined;
  try {
    return parseRecipe(report.recipe);
  } catch {
    return undefined; // of another release
  }
}

/** The YAML that `--explain` prints: every option spelt out. */
export function formatRecipe(recipe: Recipe): string {
  const lines = [`name: ${recipe.name}`, 'passes:'];
  for (const { pass, options } of recipe.passes) {
    lines.push(`  - pass: ${pass}`);
    for (const [key, value] of Object.entries(options as object))
      if (value !== undefined) lines.push(`    ${key}: ${JSON.stringify(value)}`);
  }
  return `${lines.join('\n')}\n`;
}

function builtInName(weights: string, activations: string | undefined): BuiltInName {
  if (weights === 'int8') {
    if (activations === undefined || activations === 'int8') return 'int8';
    if (activations === 'dynamic') return 'int8-dynamic';
    if (activations === 'none') return 'int8-weights';
  }
  const weightOnly = (['int4', 'nf4', 'fp4', 'fp16', 'fp32'] as const).find((name) => name === weights);
  if (weightOnly !== undefined && (activations ?? 'none') === 'none') return weightOnly;
  throw new CompilerError(
    'compiler/recipe',
    `--weights ${weights} has no built-in recipe with --activations ${activations ?? 'unset'}`,
    { hint: 'int8 goes with int8, dynamic or none; int4, nf4, fp4, fp16 and fp32 with none; else write a recipe' },
  );
}

function loadBuiltIn(name: string, depth: number): Recipe {
  if (!builtInNames.some((known) => known === name))
    throw new CompilerError('compiler/recipe', `unknown recipe "${name}"${nearest(name, builtInNames)}`);
  return expand(readYaml(readFileSync(new URL(`../recipes/${name}.yaml`, import.meta.url), 'utf8'), name), depth);
}

function readYaml(text: string, where: string): z.output<typeof document> {
  if (isDeepYaml(text)) throw new CompilerError('compiler/recipe', 'nested deeper than any recipe is', { where });
  const yaml = parseDocument(text, { schema: 'core', uniqueKeys: true, merge: false, prettyErrors: false });
  const [problem] = yaml.errors;
  if (problem) throw new CompilerError('compiler/recipe', `not YAML: ${problem.message}`, { where });
  let data: unknown;
  try {
    data = yaml.toJS({ maxAliasCount: 0 });
  } catch (cause) {
    throw new CompilerError('compiler/recipe', 'aliases are not allowed in a recipe', { where, cause });
  }
  const parsed = document.safeParse(data);
  if (!parsed.success) throw new CompilerError('compiler/recipe', firstIssue(parsed.error), { where });
  return parsed.data;
}

function expand({ name, passes }: z.output<typeof document>, depth: number): Recipe {
  // A built-in recipe may name another; a circle of them would be our own mistake.
  if (depth > 4) throw new CompilerError('compiler/recipe', `recipe "${name}" contains itself`);
  return {
    name,
    passes: passes.flatMap((entry) => {
      const { pass, recipe, ...options } = entry as { pass?: unknown; recipe?: unknown };
      if (typeof recipe === 'string' && pass === undefined) return loadBuiltIn(recipe, depth + 1).passes;
      if (typeof pass !== 'string')
        throw new CompilerError('compiler/recipe', 'an entry of passes has neither pass nor recipe', { where: name });
      return [checkedStep(pass, options)];
    }),
  };
}

/** One pass with its options. @throws {CompilerError} `compiler/recipe` */
export function checkedStep(name: string, options: object): RecipeStep {
  const pass = findPass(name);
  if (!pass) throw new CompilerError('compiler/recipe', `unknown pass "${name}"${nearest(name, passNames())}`);
  const parsed = pass.options.safeParse(options);
  if (parsed.success) return { pass: name, options: parsed.data };
  const known = pass.options instanceof z.ZodObject ? Object.keys(pass.options.shape) : [];
  const stray = Object.keys(options).find((key) => !known.includes(key));
  throw stray === undefined
    ? new CompilerError('compiler/recipe', firstIssue(parsed.error), { where: name })
    : new CompilerError('compiler/recipe', `pass ${name} has no option "${stray}"${nearest(stray, known)}`);
}

function firstIssue(error: z.ZodError): string {
  const issue = error.issues[0];
  return issue ? `${issue.path.join('.') || 'recipe'}: ${issue.message}` : 'not a recipe';
}
