import { readFile } from 'node:fs/promises';
import { parse } from 'yaml';
import { CompilerError } from '../errors.ts';

/** Where a file says that a module lies: a node or initializer by name, and a run of its outputs. */
export interface MappedHome {
  readonly name: string;
  readonly range: { readonly begin: number; readonly end: number } | undefined;
}

/** Answers what the file says of a module. */
export type LoraMap = (module: string) => MappedHome | undefined;

export const NO_MAP: LoraMap = () => undefined;

/**
 * Reads a `--lora-map`: YAML (or JSON), one line a module, `MODULE: NAME` or `MODULE: NAME[BEGIN:END]` for a part of fused
 * weights. NAME is a node's or an initializer's. `*` in MODULE stands for any one part of the path and is handed on to the
 * `*` in NAME.
 * @throws {CompilerError} `compiler/lora-map`
 */
export async function readLoraMap(path: string): Promise<LoraMap> {
  const fail = (what: string, cause?: unknown): CompilerError =>
    new CompilerError('compiler/lora-map', `${path}: ${what}`, { where: path, cause });
  let text: string;
  let json: unknown;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    throw fail('cannot be read', cause);
  }
  try {
    json = parse(text, { schema: 'core', maxAliasCount: 0 });
  } catch (cause) {
    throw fail('is not YAML', cause);
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) throw fail('is no map of modules to names');
  const rules = Object.entries(json).map(([module, target]: [string, unknown]) => {
    const match = typeof target === 'string' ? /^(.+?)(?:\[(\d+):(\d+)\])?$/.exec(target) : undefined;
    const [, name, begin, end] = match ?? [];
    if (name === undefined) throw fail(`${module} is sent to ${JSON.stringify(target)}, which is no name`);
    if (begin !== undefined && Number(begin) >= Number(end)) throw fail(`${module}: [${begin}:${end}] is empty`);
    const range = begin === undefined ? undefined : { begin: Number(begin), end: Number(end) };
    return { expression: expressionOf(module), name, range };
  });
  return (module) => {
    for (const { expression, name, range } of rules) {
      const [, ...parts] = expression.exec(module) ?? [];
      if (expression.test(module)) return { name: name.replaceAll('*', () => parts.shift() ?? '*'), range };
    }
    return undefined;
  };
}

function expressionOf(module: string): RegExp {
  const parts = module.split('*').map((part) => part.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`));
  return new RegExp(`^${parts.join('([^.]+)')}$`);
}
