import { parseDocument } from 'yaml';
import { type Arch, type Board, boardClassOf, type IsaFeature } from './board.ts';
import { isDeepYaml } from './deep-yaml.ts';
import { BoardError } from './errors.ts';

/** A board file is a page of facts; what is longer was not written by a person. */
const MAX_BYTES = 16 * 1024;
/** Room for a shared list or two, none for an alias bomb (10 levels of 10 aliases need 10^10). */
const MAX_ALIASES = 16;

const FEATURES: { readonly [A in Arch]: readonly IsaFeature[] } = {
  x64: ['avx2', 'avx512', 'vnni'],
  arm64: ['neon', 'dotprod', 'i8mm', 'fp16'],
};

/**
 * Reads a board from YAML 1.2 (core schema: no custom tags, no merge keys, no duplicate keys).
 * @param where named in errors, usually the file's path
 * @throws {BoardError} `boards/invalid`
 */
export function parseBoard(text: string, where: string): Board {
  const root = new Reader(plainData(text, where), '', where);
  const arch = root.oneOf('arch', ['x64', 'arm64'] as const);
  const cpu = root.child('cpu');
  const features = cpu.list('features').map((feature) => oneFeature(feature, arch, where));
  if (new Set(features).size !== features.length) throw invalid('cpu.features names a feature twice', where);
  const name = root.text('name');
  if (!/^[a-z0-9]+(-[a-z0-9]+)*$/.test(name)) throw invalid(`name ${JSON.stringify(name)} is not kebab-case`, where);
  const board: Board = {
    name,
    title: root.text('title'),
    arch,
    boardClass: boardClassOf(arch, features),
    cpu: { model: cpu.text('model'), cores: cpu.count('cores', 4096), features },
    ramBytes: root.count('ramBytes', 2 ** 50),
    storage: root.text('storage'),
    boot: root.text('boot'),
    sources: root.list('sources').map((source) => textOf(source, 'sources', where)),
  };
  if (board.sources.length === 0) throw invalid('sources is empty: say where the figures come from', where);
  cpu.done();
  root.done();
  return board;
}

function plainData(text: string, where: string): unknown {
  if (text.length > MAX_BYTES) throw invalid(`the file is longer than ${MAX_BYTES} characters`, where);
  if (isDeepYaml(text)) throw invalid('the file is nested deeper than any board is', where);
  try {
    const document = parseDocument(text, { version: '1.2', schema: 'core', merge: false, uniqueKeys: true });
    // An unknown tag (`!!js/function`) is only a warning to the parser.
    const problem = document.errors[0] ?? document.warnings[0];
    if (problem) throw invalid(firstLine(problem.message), where);
    return document.toJS({ maxAliasCount: MAX_ALIASES, mapAsMap: true });
  } catch (cause) {
    if (cause instanceof BoardError) throw cause;
    throw invalid(cause instanceof Error ? firstLine(cause.message) : 'not YAML', where, cause); // alias cap, nesting
  }
}

function oneFeature(value: unknown, arch: Arch, where: string): IsaFeature {
  const feature = FEATURES[arch].find((known) => known === value);
  if (feature) return feature;
  throw invalid(`cpu.features: ${show(value)} is not a feature of ${arch} (${FEATURES[arch].join(', ')})`, where);
}

/** Takes the keys of one mapping and knows which nobody asked for. Maps, not objects: `__proto__` is a key like any other. */
class Reader {
  private readonly left: Map<unknown, unknown>;
  private readonly path: string;
  private readonly where: string;
  constructor(value: unknown, path: string, where: string) {
    if (!(value instanceof Map)) throw invalid(`${path || 'the file'} is not a mapping`, where);
    this.left = new Map(value);
    this.path = path ? `${path}.` : '';
    this.where = where;
  }

  private take(key: string): unknown {
    const value = this.left.get(key);
    if (value === undefined || value === null) throw invalid(`${this.path}${key} is missing`, this.where);
    this.left.delete(key);
    return value;
  }

  text(key: string): string {
    return textOf(this.take(key), this.path + key, this.where);
  }

  count(key: string, max: number): number {
    const value = this.take(key);
    if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 1 && value <= max) return value;
    throw invalid(`${this.path}${key} is ${show(value)}, not a whole number from 1 to ${max}`, this.where);
  }

  list(key: string): readonly unknown[] {
    const value = this.take(key);
    if (Array.isArray(value) && value.length <= 64) return value;
    throw invalid(`${this.path}${key} is not a list of at most 64`, this.where);
  }

  oneOf<T extends string>(key: string, allowed: readonly T[]): T {
    const value = this.take(key);
    const found = allowed.find((one) => one === value);
    if (found) return found;
    throw invalid(`${this.path}${key} is ${show(value)}, not one of ${allowed.join(', ')}`, this.where);
  }

  child(key: string): Reader {
    return new Reader(this.take(key), this.path + key, this.where);
  }

  done(): void {
    for (const key of this.left.keys()) throw invalid(`${this.path}${show(key)} is not a key of a board`, this.where);
  }
}

function textOf(value: unknown, path: string, where: string): string {
  // Control characters would reach terminals and logs.
  if (typeof value === 'string' && value !== '' && value.length <= 500 && !/\p{Cc}/u.test(value)) return value;
  throw invalid(`${path} is ${show(value)}, not a line of text`, where);
}

function show(value: unknown): string {
  return (typeof value === 'string' ? JSON.stringify(value) : String(value)).slice(0, 60);
}

function firstLine(message: string): string {
  return message.split('\n', 1)[0]?.replace(/:$/, '') ?? message;
}

function invalid(problem: string, where: string, cause?: unknown): BoardError {
  return new BoardError('boards/invalid', `${where}: ${problem}`, {
    where,
    hint: 'compare the file with devices/raspberrypi-5.yaml',
    cause,
  });
}
