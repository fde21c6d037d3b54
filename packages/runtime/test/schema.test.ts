import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { loadTokenizer } from '@flotilla/runtime';
import { describe, expect, test } from 'vitest';
import { Automaton, type State } from '../src/grammar/automaton.ts';
import { jsonSchemaGrammar } from '../src/grammar/json-schema.ts';
import { SchemaGuides } from '../src/grammar/schema-guides.ts';
import { randomFrom } from '../src/random.ts';
import { LLAMA } from './packs.ts';

const names = ['tokenizer.json', 'tokenizer_config.json', 'config.json', 'generation_config.json'];
const tokenizer = loadTokenizer(
  new Map(await Promise.all(names.map(async (name) => [name, await readFile(join(LLAMA, name))] as const))),
);

function takes(schema: unknown, text: string | Uint8Array): boolean {
  const automaton = new Automaton(jsonSchemaGrammar(schema));
  let state: State | null = automaton.start;
  for (const byte of typeof text === 'string' ? new TextEncoder().encode(text) : text)
    state = state && automaton.next(state, byte);
  return state?.complete ?? false;
}

const command = {
  type: 'object',
  properties: { intent: { enum: ['on', 'off'] }, level: { type: 'integer', minimum: -5, maximum: 120 }, room: {} },
  required: ['intent'],
  additionalProperties: false,
};
const tree = { $ref: '#/$defs/node', $defs: { node: { properties: { next: { $ref: '#/$defs/node' } } } } };

describe('a schema', () => {
  test.each<[unknown, readonly string[], readonly string[]]>([
    [
      command,
      ['{"intent":"on"}', ' { "level" : 7, "intent":"off" }', '{"intent":"on",\n\t"room":[1,{"a":null}]}'],
      [
        '{}',
        '{"level":3}',
        '{"intent":"up"}',
        '{"intent":"on","intent":"on"}',
        '{"intent":"on",}',
        '{"x":1,"intent":"on"}',
      ],
    ],
    [{ type: 'integer' }, ['0', '-12', '999999999999999'], ['01', '1.0', '-', '1e3', '9999999999999999']],
    [{ type: 'integer', minimum: 0, maximum: 120 }, ['0', '9', '10', '99', '100', '120'], ['-1', '121', '1200', '007']],
    [{ type: 'integer', minimum: -37, exclusiveMaximum: 5 }, ['-37', '-9', '0', '4'], ['-38', '5', '-100', '40']],
    [{ type: 'integer', minimum: 95, maximum: 1003 }, ['95', '99', '100', '999', '1003'], ['94', '1004', '10', '9']],
    [{ type: 'number' }, ['0.5', '-1e-7', '12E+30'], ['.5', '1.', '1e999', '+1']],
    [{ type: 'string' }, ['""', '"é😀\\n\\u00e9\\ud83d\\ude00"'], ['"', '"\n"', '"\\x"', '"\\ud83d"', '"a', "'a'"]],
    [{ type: 'string', minLength: 2, maxLength: 3 }, ['"ab"', '"é😀"', '"a\\u0041c"'], ['"a"', '"abcd"', '""']],
    [
      { type: 'array', items: { type: 'boolean' }, minItems: 1, maxItems: 2 },
      ['[true]', '[ true , false ]'],
      ['[]', '[true,true,true]', '[1]', '[true,]'],
    ],
    [{ prefixItems: [{ const: 1 }, { const: 2 }], items: false }, ['[]', '[1]', '[1,2]'], ['[2]', '[1,2,3]']],
    [
      { prefixItems: [{ const: 1 }], items: { const: 0 }, minItems: 3 },
      ['[1,0,0]', '[1,0,0,0,0]'],
      ['[1,0]', '[1,0,1]'],
    ],
    [{ type: ['string', 'null'] }, ['"a"', 'null'], ['1', 'nul']],
    [{ anyOf: [{ const: 'a' }, { type: 'integer' }] }, ['"a"', '5'], ['"b"']],
    [{ oneOf: [{ type: 'string' }, { type: 'integer' }], title: 'x' }, ['"b"', '5'], ['true']],
    [{ enum: [1, 'a', null, { b: [1] }] }, ['1', '"a"', 'null', '{"b":[1]}'], ['2', '{"b": [1]}']],
    [{ enum: [1, 'a'], type: 'string' }, ['"a"'], ['1']],
    [tree, ['{}', '{"next":{"next":{}}}'], ['{"next":1}', '{"next":{}']],
    [{ type: 'object', additionalProperties: { type: 'integer' } }, ['{}', '{"a":1, "b":2}'], ['{"a":"b"}']],
    [{ required: ['a'], properties: { b: { const: 1 } } }, ['{"a":[]}', '{"b":1,"a":0}'], ['{"b":1}', '{"b":2,"a":1}']],
    [{ properties: { ['__proto__']: { const: 1 } }, required: ['__proto__'] }, ['{"__proto__":1}'], ['{}']],
    [{}, ['[{"a":[1,"x",true,null,{}]}]', '1'], ['', '[', 'undefined', '{a:1}']],
    [true, ['1'], ['x']],
  ])('%j takes what is valid and nothing else', (schema, valid, invalid) => {
    for (const text of valid) expect({ text, takes: takes(schema, text) }).toEqual({ text, takes: true });
    for (const text of invalid) expect({ text, takes: takes(schema, text) }).toEqual({ text, takes: false });
  });

  test('no byte that is not UTF-8 gets into a string', () => {
    const inString = (...bytes: number[]) => Uint8Array.of(0x22, ...bytes, 0x22);
    expect(takes({ type: 'string' }, inString(0xc3, 0xa9))).toBe(true);
    for (const bytes of [[0x80], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xf5, 0x80, 0x80, 0x80], [0xc3]])
      expect(takes({ type: 'string' }, inString(...bytes))).toBe(false);
  });

  test.each<[string, unknown, string]>([
    ['an unknown keyword', { type: 'string', pattern: '^a' }, '"pattern" is not supported'],
    ['a keyword of another type', { type: 'string', minimum: 3 }, '"minimum" is not supported'],
    ['not', { not: {} }, '"not" is not supported'],
    ['an unknown type', { type: 'strin' }, '"strin" is no type'],
    ['a reference that leads out', { $ref: 'http://example.org/s.json' }, 'leads out of the schema'],
    ['a reference to nothing', { $ref: '#/$defs/x' }, 'leads to nothing'],
    ['oneOf that may be met twice', { oneOf: [{ type: 'integer' }, { type: 'number' }] }, 'might meet together'],
    ['a list', [], 'is no schema'],
    ['text', 'x', 'is no schema'],
    ['a count that is none', { type: 'string', minLength: -1 }, 'is not a whole number'],
    [
      'a property deep inside',
      { properties: { 'a/b': { items: { format: 'x', type: 'string' } } } },
      '/properties/a~1b/items',
    ],
    ['false', false, 'no text meets'],
    ['an empty enum', { enum: [] }, 'no text meets'],
    ['an enum that its type denies', { enum: ['a'], type: 'integer' }, 'no text meets'],
    ['bounds that exclude each other', { type: 'integer', minimum: 5, maximum: 4 }, 'no text meets'],
    ['lengths that exclude each other', { type: 'string', minLength: 5, maxLength: 4 }, 'no text meets'],
    ['more items than there are', { prefixItems: [{}], items: false, minItems: 2 }, 'no text meets'],
    ['a required property that may not be', { required: ['a'], additionalProperties: false }, 'no text meets'],
    ['a property that requires itself', { properties: { a: { $ref: '#' } }, required: ['a'] }, 'no text meets'],
    ['a reference to itself', { $ref: '#' }, 'no text meets'],
    ['an anyOf of itself', { anyOf: [{ $ref: '#' }, { $ref: '#' }] }, 'no text meets'],
    ['depth without end', JSON.parse(`${'{"items":'.repeat(3000)}{}${'}'.repeat(3000)}`), 'nested deeper'],
  ])('refuses %s', (_, schema, message) => {
    expect(() => new Automaton(jsonSchemaGrammar(schema))).toThrow(
      expect.objectContaining({ code: 'runtime/schema', message: expect.stringContaining(message) }),
    );
  });

  test('what cannot come to an end is never begun', () => {
    const schema = {
      properties: { a: { const: 1 }, b: { properties: { b: { $ref: '#/properties/b' } }, required: ['b'] } },
    };
    expect(takes(schema, '{"a":1}')).toBe(true);
    const automaton = new Automaton(jsonSchemaGrammar(schema));
    let state: State | null = automaton.start;
    for (const byte of new TextEncoder().encode('{"')) state = state && automaton.next(state, byte);
    expect(state && automaton.next(state, 'b'.charCodeAt(0))).toBeNull();
  });
});

describe('tokens under a schema', () => {
  const everything = {
    type: 'object',
    properties: {
      name: { type: 'string', minLength: 1, maxLength: 12 },
      values: {
        type: 'array',
        items: { anyOf: [{ type: 'integer', minimum: -9, maximum: 300 }, { type: 'null' }] },
        minItems: 2,
      },
      inner: tree.$defs.node,
      any: {},
    },
    required: ['name', 'values'],
    $defs: tree.$defs,
  };

  /** Any token that is allowed, as a model with no sense at all would choose. */
  function ramble(schema: unknown, left: number, seed: number): string {
    const text = new SchemaGuides(tokenizer).begin(schema);
    const random = randomFrom(seed);
    const ids: number[] = [];
    while (!text.over && ids.length < left) {
      const bits = text.allowed(left - ids.length);
      const allowed = Array.from({ length: 2048 }, (_id, id) => id).filter((id) => bits[id >> 5]! & (1 << (id & 31)));
      const id = allowed[Math.floor(random() * allowed.length)] ?? -1;
      if (tokenizer.eosIds.has(id)) break;
      ids.push(id);
      text.take(id);
    }
    expect(text.complete).toBe(true);
    return tokenizer.decode(ids);
  }

  test.each([30, 40, 60, 200])('whatever is chosen, %i tokens make a valid text', (left) => {
    for (let seed = 0; seed < 12; seed++) {
      const made = JSON.parse(ramble(everything, left, seed));
      expect([...made.name].length).toBeGreaterThan(0);
      expect([...made.name].length).toBeLessThanOrEqual(12);
      expect(made.values.length).toBeGreaterThan(1);
      for (const value of made.values) expect(value === null || (value >= -9 && value <= 300)).toBe(true);
      expect(Object.keys(made).every((key) => Object.hasOwn(everything.properties, key))).toBe(true);
    }
  });

  test('too few tokens for any answer are refused before the first', () => {
    const text = new SchemaGuides(tokenizer).begin(everything);
    expect(() => text.allowed(5)).toThrow(expect.objectContaining({ code: 'runtime/schema' }));
  });
});
