import { runInNewContext } from 'node:vm';
import { CheckpointError } from './errors.ts';

/** Long enough for any honest expression over any number of module names. */
const TIMEOUT_MS = 2000;

/**
 * Which texts a Python regular expression matches from end to end (`re.fullmatch`). An adapter's expression is foreign
 * input: one that backtracks without end is stopped.
 * @throws {CheckpointError} `checkpoint/adapter-config` for an expression that cannot be read, or does not end
 */
export function fullMatches(pattern: string, texts: readonly string[], where: string): readonly boolean[] {
  const source = `^(?:${translate(pattern)})$`;
  try {
    const flags: unknown = runInNewContext(
      'const expression = new RegExp(source, "s"); texts.map((text) => expression.test(text))',
      { source, texts: [...texts] },
      { timeout: TIMEOUT_MS },
    );
    return Array.from(flags as boolean[]);
  } catch (cause) {
    const message = `${where}: the regular expression ${JSON.stringify(pattern)} cannot be used`;
    const hint = 'write it as a list of module names';
    throw new CheckpointError('checkpoint/adapter-config', message, { where, hint, cause });
  }
}

/** What Python spells otherwise: named groups, and the ends of the text. */
function translate(pattern: string): string {
  return pattern
    .replaceAll('(?P<', '(?<')
    .replaceAll(/\(\?P=(\w+)\)/g, '\\k<$1>')
    .replaceAll(/(?<!\\)\\A/g, '^')
    .replaceAll(/(?<!\\)\\Z/g, '$');
}
