import { literal, Rule, rule, type Sequence } from './byte-grammar.ts';
import {
  jsonArrayOf,
  jsonInteger,
  jsonIntegerBetween,
  jsonNumber,
  jsonObjectOf,
  jsonString,
  jsonValue,
  space,
} from './json-terms.ts';
import { type Bound, jsonNumberBetween } from './json-number-between.ts';
import { jsonObject } from './json-object.ts';
import { refuse } from './schema-refusal.ts';
import { FORMATS } from './string-formats.ts';
import { jsonStringLike } from './string-pattern.ts';

type Schema = { readonly [keyword: string]: unknown };

/** Say nothing about what is valid. */
const ANNOTATIONS = new Set([
  '$schema',
  '$id',
  '$comment',
  '$defs',
  'definitions',
  'title',
  'description',
  'default',
  'examples',
  'deprecated',
  'readOnly',
  'writeOnly',
]);

/** What a type understands beside the annotations. */
const KEYWORDS: { readonly [type: string]: readonly string[] } = {
  null: [],
  boolean: [],
  integer: ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum'],
  number: ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum'],
  string: ['minLength', 'maxLength', 'pattern', 'format'],
  array: ['items', 'prefixItems', 'minItems', 'maxItems'],
  object: ['properties', 'required', 'additionalProperties'],
};

const MOST_DEPTH = 64;
const MOST_SCHEMAS = 10_000;
/** Beyond this, what a text may hold is longer than any answer. */
const MOST_COUNT = 65_536;

/**
 * A grammar of JSON texts (RFC 8259, in UTF-8) that are valid against a schema (JSON Schema 2020-12). It gives a part of
 * them where a schema is wide: members that `properties` does not name are left out, numbers have up to 15 digits.
 * Understood: `type`, `enum`, `const`, `anyOf`, `oneOf` where no value can meet two of its branches, `allOf` of one,
 * `$ref` within the schema (also to itself), `properties`, `required`, `additionalProperties`, `items`, `prefixItems`,
 * `minItems`, `maxItems`, `minLength`, `maxLength`, `pattern` and `format`, and bounds of numbers; annotations are passed
 * over.
 * @throws {RuntimeError} `runtime/schema`, with the place, for anything else
 */
export function jsonSchemaGrammar(schema: unknown): Rule {
  const value = new SchemaReader(schema).read(schema, '', 0);
  return rule([space, value, space]);
}

class SchemaReader {
  private readonly root: unknown;
  private readonly references = new Map<string, Rule>();
  private count = 0;

  constructor(root: unknown) {
    this.root = root;
  }

  read(schema: unknown, path: string, depth: number): Rule {
    if (depth > MOST_DEPTH) throw refuse(path, `is nested deeper than ${MOST_DEPTH}`);
    if (++this.count > MOST_SCHEMAS) throw refuse(path, `comes after ${MOST_SCHEMAS} other schemas`);
    if (schema === true) return jsonValue;
    if (schema === false) return rule();
    if (!isSchema(schema)) throw refuse(path, 'is no schema: neither an object nor true or false');
    if (has(schema, '$ref')) return this.reference(schema, path, depth);
    if (has(schema, 'allOf')) return this.only(schema, path, depth);
    if (has(schema, 'anyOf')) return this.union(schema, 'anyOf', path, depth);
    if (has(schema, 'oneOf')) return this.exclusiveUnion(schema, path, depth);
    if (has(schema, 'const')) return this.values(schema, 'const', [schema['const']], path);
    if (has(schema, 'enum')) return this.values(schema, 'enum', listAt(schema, 'enum', path), path);
    const types = typesOf(schema, path);
    allowOnly(schema, ['type', ...types.flatMap((type) => KEYWORDS[type] ?? [])], path);
    if (types.length === 0) return jsonValue;
    return rule(...types.map((type): Sequence => [this.typed(type, schema, path, depth)]));
  }

  private typed(type: string, schema: Schema, path: string, depth: number): Rule {
    switch (type) {
      case 'null':
        return rule(literal('null'));
      case 'boolean':
        return rule(literal('true'), literal('false'));
      case 'number':
        return number(schema, path);
      case 'integer':
        return integer(schema, path);
      case 'string':
        return string(schema, path);
      case 'array':
        return this.array(schema, path, depth);
      default:
        return this.object(schema, path, depth);
    }
  }

  private array(schema: Schema, path: string, depth: number): Rule {
    const first = (has(schema, 'prefixItems') ? listAt(schema, 'prefixItems', path) : []).map((item, i) =>
      this.read(item, `${path}/prefixItems/${i}`, depth + 1),
    );
    const { items = true } = schema;
    const others = items === false ? undefined : this.read(items, `${path}/items`, depth + 1);
    return jsonArrayOf(
      first,
      others,
      countAt(schema, 'minItems', path) ?? 0,
      countAt(schema, 'maxItems', path) ?? Number.POSITIVE_INFINITY,
    );
  }

  private object(schema: Schema, path: string, depth: number): Rule {
    const { properties = {}, additionalProperties: others = true } = schema;
    if (!isSchema(properties)) throw refuse(`${path}/properties`, 'is not an object');
    const required = has(schema, 'required') ? listAt(schema, 'required', path) : [];
    const named = new Map<string, Rule>();
    for (const [name, property] of Object.entries(properties))
      named.set(name, this.read(property, `${path}/properties/${pointer(name)}`, depth + 1));
    const rest = this.read(others, `${path}/additionalProperties`, depth + 1);
    const must = new Set<string>();
    for (const name of required) {
      if (typeof name !== 'string') throw refuse(`${path}/required`, 'holds what is not a string');
      if (!named.has(name)) named.set(name, rest);
      must.add(name);
    }
    return named.size === 0 && others !== false ? jsonObjectOf(jsonString(), rest) : jsonObject(named, must);
  }

  private reference(schema: Schema, path: string, depth: number): Rule {
    allowOnly(schema, ['$ref'], path);
    const target = schema['$ref'];
    if (typeof target !== 'string' || !/^#(\/|$)/.test(target))
      throw refuse(path, `$ref ${JSON.stringify(target)} leads out of the schema`);
    const known = this.references.get(target);
    if (known) return known;
    let inner: Rule | undefined;
    const made = new Rule(() => (inner ? [[inner]] : []));
    this.references.set(target, made); // before it is read: it may lead to itself
    inner = this.read(this.at(target, path), target.slice(1), depth + 1);
    return made;
  }

  /** What a reference leads to in the end. */
  private target(schema: unknown, path: string): unknown {
    let found = schema;
    for (let hops = 0; hops < MOST_DEPTH && isSchema(found) && typeof found['$ref'] === 'string'; hops++)
      found = this.at(found['$ref'], path);
    return found;
  }

  private at(target: string, path: string): unknown {
    let found: unknown = this.root;
    for (const part of target.split('/').slice(1)) {
      const key = decodeURIComponent(part).replaceAll('~1', '/').replaceAll('~0', '~');
      if (typeof found !== 'object' || found === null || !Object.hasOwn(found, key))
        throw refuse(path, `$ref ${target} leads to nothing`);
      found = (found as Schema)[key];
    }
    return found;
  }

  private union(schema: Schema, keyword: string, path: string, depth: number): Rule {
    allowOnly(schema, [keyword], path);
    const branches = listAt(schema, keyword, path);
    return rule(...branches.map((branch, i): Sequence => [this.read(branch, `${path}/${keyword}/${i}`, depth + 1)]));
  }

  /** `allOf` of one schema is that one. */
  private only(schema: Schema, path: string, depth: number): Rule {
    allowOnly(schema, ['allOf'], path);
    const [branch, ...others] = listAt(schema, 'allOf', path);
    if (others.length > 0 || branch === undefined)
      throw refuse(`${path}/allOf`, 'holds several schemas', 'write them as one');
    return this.read(branch, `${path}/allOf/0`, depth + 1);
  }

  /** `oneOf` is `anyOf` where no value meets two branches: told by types, by listed values, by a member of objects. */
  private exclusiveUnion(schema: Schema, path: string, depth: number): Rule {
    const branches = listAt(schema, 'oneOf', path).map((branch) => this.target(branch, path));
    const kinds = branches.map((branch) => kindsOf(branch));
    const objects = branches.filter((_, i) => kinds[i]?.includes('object'));
    const all = kinds.flat().filter((kind) => kind !== 'object' || !isTold(objects));
    const anyString = all.includes('string') && all.some((kind) => kind.startsWith('='));
    if (anyString || kinds.some((kind) => kind.length === 0) || new Set(all).size !== all.length)
      throw refuse(`${path}/oneOf`, 'has branches that one value might meet together', 'use anyOf, or other types');
    return this.union(schema, 'oneOf', path, depth);
  }

  private values(schema: Schema, keyword: string, values: readonly unknown[], path: string): Rule {
    allowOnly(schema, [keyword, 'type'], path);
    const types = has(schema, 'type') ? typesOf(schema, path) : undefined;
    const fitting = values.filter((value) => !types || types.some((type) => isOfType(value, type)));
    return rule(...fitting.map((value) => literal(JSON.stringify(value))));
  }
}

function integer(schema: Schema, path: string): Rule {
  const bound = (keyword: string, step: number) => {
    const value = numberAt(schema, keyword, path);
    return value === undefined || step === 0 ? value : step > 0 ? Math.floor(value) + 1 : Math.ceil(value) - 1;
  };
  const lows = [bound('minimum', 0), bound('exclusiveMinimum', 1)].filter((value) => value !== undefined);
  const highs = [bound('maximum', 0), bound('exclusiveMaximum', -1)].filter((value) => value !== undefined);
  if (lows.length + highs.length === 0) return jsonInteger;
  return jsonIntegerBetween(Math.max(...lows), Math.min(...highs)); // of none: −∞ and ∞
}

/** Both bounds of a side: the nearer one. */
function number(schema: Schema, path: string): Rule {
  const bounds = (keyword: string, openKeyword: string, sign: number): Bound | undefined => {
    const found = [
      { value: numberAt(schema, keyword, path), open: false },
      { value: numberAt(schema, openKeyword, path), open: true },
    ].filter((bound): bound is Bound => bound.value !== undefined);
    return found.toSorted((a, b) => sign * (b.value - a.value) || Number(b.open) - Number(a.open))[0];
  };
  const low = bounds('minimum', 'exclusiveMinimum', 1);
  const high = bounds('maximum', 'exclusiveMaximum', -1);
  return low || high ? jsonNumberBetween(low, high) : jsonNumber;
}

function string(schema: Schema, path: string): Rule {
  const given = ['pattern', 'format'].filter((keyword) => has(schema, keyword));
  const [keyword] = given;
  if (keyword === undefined)
    return jsonString(countAt(schema, 'minLength', path) ?? 0, countAt(schema, 'maxLength', path));
  const other = ['minLength', 'maxLength', ...given.slice(1)].find((one) => has(schema, one));
  if (other !== undefined)
    throw refuse(path, `${keyword} and ${other} are not supported together`, 'say it all in the pattern');
  const value = schema[keyword];
  if (typeof value !== 'string') throw refuse(`${path}/${keyword}`, 'is not a text');
  const pattern = keyword === 'pattern' ? value : FORMATS.get(value);
  if (pattern === undefined)
    throw refuse(
      path,
      `the format ${JSON.stringify(value)} is not supported`,
      `known are ${[...FORMATS.keys()].join(', ')}`,
    );
  try {
    return jsonStringLike(pattern);
  } catch (error) {
    throw refuse(`${path}/pattern`, `is not understood: ${error instanceof Error ? error.message : ''}`);
  }
}

/** The type as stated, or the one whose keywords are used; none: any value. */
function typesOf(schema: Schema, path: string): readonly string[] {
  const { type } = schema;
  if (type === undefined) {
    const implied = Object.keys(KEYWORDS).filter((name) => KEYWORDS[name]?.some((keyword) => has(schema, keyword)));
    return implied.slice(0, 1);
  }
  const types: readonly unknown[] = Array.isArray(type) ? type : [type];
  for (const one of types)
    if (typeof one !== 'string' || !Object.hasOwn(KEYWORDS, one))
      throw refuse(`${path}/type`, `${JSON.stringify(one)} is no type`);
  return types as readonly string[];
}

function allowOnly(schema: Schema, keywords: readonly string[], path: string): void {
  for (const keyword of Object.keys(schema)) {
    if (keywords.includes(keyword) || ANNOTATIONS.has(keyword)) continue;
    // A keyword with its neutral value asks for nothing.
    if (keyword === 'uniqueItems' && schema[keyword] === false) continue;
    throw refuse(path, `the keyword ${JSON.stringify(keyword)} is not supported here`, 'leave it out; see the README');
  }
}

/** Disjoint marks of what a branch takes: its types, or its listed values. Empty: not known. */
function kindsOf(branch: unknown): readonly string[] {
  if (!isSchema(branch)) return [];
  const listed = has(branch, 'const') ? [branch['const']] : Array.isArray(branch['enum']) ? branch['enum'] : undefined;
  // Listed strings are told apart; other listed values count as their whole type.
  if (listed) return [...new Set(listed.map((value) => (typeof value === 'string' ? `=${value}` : kindOf(value))))];
  const { type } = branch;
  const types = Array.isArray(type) ? type : type === undefined ? [] : [type];
  return types.map((one) => (one === 'integer' ? 'number' : String(one)));
}

/** Whether one member tells objects apart: required in each of them, and of other listed strings in each. */
function isTold(objects: readonly unknown[]): boolean {
  const names = isSchema(objects[0]) && isSchema(objects[0]['properties']) ? Object.keys(objects[0]['properties']) : [];
  return names.some((name) => {
    const values = objects.map((object) => listedStrings(object, name));
    return values.every((list) => list.length > 0) && new Set(values.flat()).size === values.flat().length;
  });
}

function listedStrings(object: unknown, name: string): readonly string[] {
  if (!isSchema(object) || !isSchema(object['properties'])) return [];
  const { required, properties } = object;
  if (!Array.isArray(required) || !required.includes(name) || !Object.hasOwn(properties, name)) return [];
  const kinds = kindsOf(properties[name]);
  return kinds.every((kind) => kind.startsWith('=')) ? kinds : [];
}

function kindOf(value: unknown): string {
  if (value === null) return 'null';
  return Array.isArray(value) ? 'array' : typeof value;
}

function isOfType(value: unknown, type: string): boolean {
  return type === 'integer' ? Number.isInteger(value) : kindOf(value) === type;
}

function listAt(schema: Schema, keyword: string, path: string): readonly unknown[] {
  const value = schema[keyword];
  if (!Array.isArray(value)) throw refuse(`${path}/${keyword}`, 'is not a list');
  return value;
}

function numberAt(schema: Schema, keyword: string, path: string): number | undefined {
  const value = schema[keyword];
  if (value === undefined) return undefined;
  if (typeof value !== 'number' || !Number.isFinite(value)) throw refuse(`${path}/${keyword}`, 'is not a number');
  return value;
}

function countAt(schema: Schema, keyword: string, path: string): number | undefined {
  const value = numberAt(schema, keyword, path);
  if (value === undefined || (Number.isSafeInteger(value) && value >= 0 && value <= MOST_COUNT)) return value;
  throw refuse(`${path}/${keyword}`, `is not a whole number up to ${MOST_COUNT}`);
}

function isSchema(value: unknown): value is Schema {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function has(schema: Schema, keyword: string): boolean {
  return Object.hasOwn(schema, keyword);
}

function pointer(name: string): string {
  return name.replaceAll('~', '~0').replaceAll('/', '~1');
}
