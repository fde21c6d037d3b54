import { isRecord, parseCanonicalJson } from './canonical-json.ts';
import { digestHex } from './digest.ts';
import { PackError } from './errors.ts';
import { packConfigPath, signaturePath } from './media-types.ts';
import type { PackConfig } from './types.ts';

/** Limits of the format: what a device may have to hold in memory before it trusts a pack. */
export const maxConfigBytes = 1 << 20;
export const maxFiles = 1024;

/**
 * @throws {PackError} `pack/config`, naming the member: not canonical JSON, a member missing, unknown or out of range,
 *   a path that leads outside or collides with another
 */
export function parseConfig(bytes: Uint8Array): PackConfig {
  const value = parseCanonicalJson(bytes);
  if (value === undefined) throw bad('it is not canonical JSON');
  return checkConfig(value);
}

export function checkConfig(value: unknown): PackConfig {
  if (!isRecord(value)) throw bad('not an object');
  if (value['format'] !== 'flotilla-pack/1')
    throw bad(`format ${JSON.stringify(value['format'])} is not flotilla-pack/1`);
  exactly(value, members, 'config');
  text(value['name'], 'name', /^[^\p{C}]{1,128}$/u);
  if (value['task'] !== 'tensor' && value['task'] !== 'text') throw bad(`task ${JSON.stringify(value['task'])}`);
  text(value['weights'], 'weights', /^[a-z0-9][a-z0-9-]{0,31}$/);
  count(value['parameters'], 'parameters');
  count(value['sourceBytes'], 'sourceBytes');
  const roles = checkFiles(value['files']);
  checkGolden(value['golden'], roles);
  for (const [board, us] of entries(value['latencyBudgetUs'], 'latencyBudgetUs'))
    if (typeof us !== 'number' || !(us > 0) || !Number.isFinite(us))
      throw bad(`latencyBudgetUs.${board} is not above 0`);
  for (const [key, note] of entries(value['annotations'], 'annotations'))
    if (typeof note !== 'string') throw bad(`annotations.${key} is not text`);
  // Every member was checked just above; the cast says so to the compiler.
  return value as unknown as PackConfig;
}

const members = [
  'annotations',
  'files',
  'format',
  'golden',
  'latencyBudgetUs',
  'name',
  'parameters',
  'sourceBytes',
  'task',
  'weights',
];

/** @returns role by path */
function checkFiles(files: unknown): Map<string, string> {
  if (!Array.isArray(files)) throw bad('files is not a list');
  if (files.length > maxFiles)
    throw new PackError('pack/too-large', `${files.length} files, over the limit of ${maxFiles}`);
  const roles = new Map<string, string>();
  const taken = new Set([packConfigPath, signaturePath]);
  let previous = '';
  for (const [index, file] of files.entries()) {
    const where = `files[${index}]`;
    if (!isRecord(file)) throw bad(`${where} is not an object`);
    exactly(file, ['bytes', 'digest', 'path', 'role'], where);
    const path = checkPath(file['path']);
    const role = text(file['role'], `${where}.role`, /^[a-z][a-z0-9-]{0,31}$/);
    digestHex(file['digest'], path);
    count(file['bytes'], `${where}.bytes`);
    if (path <= previous) throw bad(`files are not sorted by path, or two are one: ${path}`);
    reserve(path, taken);
    roles.set(path, role);
    previous = path;
  }
  const models = [...roles.values()].filter((role) => role === 'model').length;
  if (models !== 1) throw bad(`${models} files of role "model", exactly one expected`);
  return roles;
}

function checkPath(path: unknown): string {
  text(path, 'path', /^[A-Za-z0-9._-]+(\/[A-Za-z0-9._-]+)*$/);
  if (typeof path !== 'string' || path.length > 200) throw bad('a path over 200 characters');
  if (path.split('/').some((segment) => segment === '.' || segment === '..')) throw bad(`path leads outside: ${path}`);
  return path;
}

/** Two paths must be two files on every file system, so letter case does not tell them apart and no file is a folder. */
function reserve(path: string, taken: Set<string>): void {
  const lower = path.toLowerCase();
  if (taken.has(lower) || taken.has(`${lower}/`)) throw bad(`path collides with another: ${path}`);
  taken.add(lower);
  for (let slash = lower.indexOf('/'); slash >= 0; slash = lower.indexOf('/', slash + 1)) {
    if (taken.has(lower.slice(0, slash))) throw bad(`path collides with another: ${path}`);
    taken.add(lower.slice(0, slash + 1));
  }
}

function checkGolden(golden: unknown, roles: ReadonlyMap<string, string>): void {
  if (golden === null) return;
  if (!isRecord(golden)) throw bad('golden is neither null nor an object');
  exactly(golden, ['path', 'tolerance'], 'golden');
  const path = golden['path'];
  if (typeof path !== 'string' || roles.get(path) !== 'golden')
    throw bad(`golden.path names no file of role "golden": ${JSON.stringify(path)}`);
  for (const [board, tolerance] of entries(golden['tolerance'], 'golden.tolerance')) {
    if (!isRecord(tolerance)) throw bad(`golden.tolerance.${board} is not an object`);
    exactly(tolerance, ['atol', 'rtol'], `golden.tolerance.${board}`);
    for (const bound of [tolerance['atol'], tolerance['rtol']])
      if (typeof bound !== 'number' || !(bound >= 0) || !Number.isFinite(bound))
        throw bad(`golden.tolerance.${board} is below 0 or not a number`);
  }
}

function exactly(value: { readonly [key: string]: unknown }, names: readonly string[], where: string): void {
  const found = Object.keys(value).filter((key) => value[key] !== undefined);
  const missing = names.find((name) => !found.includes(name));
  if (missing !== undefined) throw bad(`${where} lacks "${missing}"`);
  const unknown = found.find((key) => !names.includes(key));
  if (unknown !== undefined) throw bad(`${where} has an unknown member ${JSON.stringify(unknown)}`);
}

function entries(value: unknown, where: string): readonly (readonly [string, unknown])[] {
  if (!isRecord(value)) throw bad(`${where} is not an object`);
  return Object.entries(value);
}

function text(value: unknown, where: string, pattern: RegExp): string {
  if (typeof value !== 'string' || !pattern.test(value))
    throw bad(`${where} ${JSON.stringify(value)?.slice(0, 240)} is not ${pattern.source}`);
  return value;
}

function count(value: unknown, where: string): void {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0)
    throw bad(`${where} is not a whole number ≥ 0`);
}

function bad(problem: string): PackError {
  return new PackError('pack/config', `pack config: ${problem}`);
}
