import { CheckpointError } from './errors.ts';
import { fullMatches } from './python-regex.ts';

/** Which modules of the base an adapter is for, as its configuration says. */
export interface Targets {
  /** A regular expression, a list of names or their endings, or undefined: not said. */
  readonly target: string | readonly string[] | undefined;
  readonly exclude: string | readonly string[];
  /** Empty: every layer. */
  readonly layers: readonly number[];
  /** Names of the list of layers (`h`, `layers`) as expressions. Empty: any. */
  readonly layersPattern: readonly string[];
}

/**
 * Refuses factors that the configuration does not name: file and configuration are of two adapters then, and PEFT would
 * pass over such factors without a word.
 * @throws {CheckpointError} `checkpoint/adapter-targets`
 * @see PEFT `check_target_module_exists`
 */
export function checkTargets(modules: readonly string[], targets: Targets, where: string): void {
  if (targets.target === undefined || targets.target === 'all-linear') return;
  const held = targeted(modules, targets, where);
  const [stray, ...others] = modules.filter((_, i) => held[i] === false);
  if (stray === undefined) return;
  const none = others.length + 1 === modules.length;
  const message = none
    ? `${where}: target_modules ${JSON.stringify(targets.target)} matches none of the modules with factors, the first of which is ${stray}`
    : `${where}: there are factors for ${stray}, which target_modules, exclude_modules and layers_to_transform leave out`;
  throw new CheckpointError('checkpoint/adapter-targets', message, { where });
}

function targeted(modules: readonly string[], targets: Targets, where: string): readonly boolean[] {
  const { target = [], exclude, layers, layersPattern } = targets;
  const excluded = matches(modules, exclude, where);
  const named = matches(modules, target, where);
  const indices = layers.length === 0 ? undefined : layerIndices(modules, layersPattern, where);
  return modules.map((module, i) => {
    if (excluded[i] === true || named[i] !== true) return false;
    if (indices === undefined || target.includes(module)) return true;
    return layers.includes(indices[i] ?? -1);
  });
}

function matches(modules: readonly string[], names: string | readonly string[], where: string): readonly boolean[] {
  if (typeof names === 'string') return fullMatches(names, modules, where);
  return modules.map((module) => names.some((name) => module === name || module.endsWith(`.${name}`)));
}

/** The first number that follows the name of the list of layers. */
function layerIndices(
  modules: readonly string[],
  patterns: readonly string[],
  where: string,
): readonly (number | undefined)[] {
  const list = patterns.length === 0 ? '[^.]*' : `(?:${patterns.join('|')})`;
  return modules.map((module) => {
    // Candidates are few: cut before each number, and ask whether the list's name stands there.
    for (const { index, 1: digits } of module.matchAll(/\.(\d+)\./g)) {
      const [holds] = fullMatches(`(?:.*\\.)?${list}`, [module.slice(0, index)], where);
      if (holds === true) return Number(digits);
    }
    return undefined;
  });
}

/**
 * A module's entry of `rank_pattern` or `alpha_pattern`: the first whose key, an expression, is the module's path or its end.
 * @see PEFT `get_pattern_key`
 */
export function patternValues(
  modules: readonly string[],
  pattern: ReadonlyMap<string, number>,
  where: string,
): ReadonlyMap<string, number> {
  const found = new Map<string, number>();
  for (const [key, value] of pattern) {
    const held = fullMatches(`(?:.*\\.)?(?:${key})`, modules, where);
    for (const [i, module] of modules.entries()) if (held[i] === true && !found.has(module)) found.set(module, value);
  }
  return found;
}
