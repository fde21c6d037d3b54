import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { isDeepYaml, nearest } from '@flotilla/boards';
import { parse } from 'yaml';
import { CliError } from './errors.ts';

/** What `flotilla.yaml` and `FLOTILLA_*` may set; each is the option of the same name. */
export const SETTINGS = {
  controller: 'URL of the controller',
  token: 'bearer token for the controller',
  board: 'default board',
  threads: 'threads inside one operator',
  key: 'private key that signs packs',
  trust: 'public key that packs must be signed with',
} as const;
export type SettingName = keyof typeof SETTINGS;

export interface Setting {
  readonly name: SettingName;
  readonly value: string;
  /** `--board`, `FLOTILLA_BOARD`, or the path of the file. */
  readonly from: string;
}

/**
 * Settings by precedence: flags, `FLOTILLA_*` variables, then the nearest `flotilla.yaml` in `folder` or above it.
 * @throws {CliError} `cli/config` for an unknown key, or a value that the setting cannot have
 */
export function loadSettings(
  env: NodeJS.ProcessEnv,
  folder: string,
  flags: { readonly [N in SettingName]?: string | undefined } = {},
): ReadonlyMap<SettingName, Setting> {
  const settings = new Map<SettingName, Setting>();
  const file = nearestFile(folder);
  if (file)
    for (const [name, value] of entries(file.text, file.path)) settings.set(name, { name, value, from: file.path });
  for (const name of Object.keys(SETTINGS) as SettingName[]) {
    const variable = `FLOTILLA_${name.toUpperCase()}`;
    const value = env[variable];
    if (value !== undefined && value !== '') settings.set(name, { name, value, from: variable });
    const flag = flags[name];
    if (flag !== undefined) settings.set(name, { name, value: flag, from: `--${name}` });
  }
  checkThreads(settings.get('threads'));
  return settings;
}

function checkThreads(threads: Setting | undefined): void {
  if (threads === undefined || /^[1-9]\d*$/.test(threads.value)) return;
  throw new CliError('cli/config', `threads must be a whole number of at least 1, not ${threads.value}`, {
    where: threads.from,
  });
}

let current: ReadonlyMap<SettingName, Setting> | undefined;

/** The value of a setting in this process's surroundings, for an option's default. */
export function setting(name: SettingName): string | undefined {
  current ??= loadSettings(process.env, process.cwd());
  return current.get(name)?.value;
}

function nearestFile(folder: string): { readonly path: string; readonly text: string } | undefined {
  for (let at = folder; ; at = dirname(at)) {
    const path = join(at, 'flotilla.yaml');
    try {
      return { path, text: readFileSync(path, 'utf8') };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
        throw new CliError('cli/config', `cannot read ${path}`, { cause: error, where: path });
    }
    if (dirname(at) === at) return undefined;
  }
}

function* entries(text: string, path: string): Iterable<[SettingName, string]> {
  if (isDeepYaml(text)) throw new CliError('cli/config', 'nested deeper than any settings are', { where: path });
  let content: unknown;
  try {
    content = parse(text, { maxAliasCount: 10 });
  } catch (error) {
    throw new CliError('cli/config', `not YAML: ${(error as Error).message.split('\n')[0]}`, {
      where: path,
      cause: error,
    });
  }
  if (content === null || content === undefined) return;
  if (typeof content !== 'object' || Array.isArray(content))
    throw new CliError('cli/config', 'not a mapping of settings', { where: path });
  for (const [name, value] of Object.entries(content)) {
    if (!Object.hasOwn(SETTINGS, name)) {
      const near = nearest(name, Object.keys(SETTINGS));
      throw new CliError('cli/config', `unknown setting ${name} in ${path}`, {
        where: path,
        hint: near ? `did you mean ${near}?` : `known: ${Object.keys(SETTINGS).join(', ')}`,
      });
    }
    if (typeof value !== 'string' && typeof value !== 'number')
      throw new CliError('cli/config', `setting ${name} in ${path} is not text or a number`, { where: path });
    yield [name as SettingName, String(value)];
  }
}
