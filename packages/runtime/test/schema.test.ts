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

const choices = {
  on: { type: 'object', properties: { do: { const: 'on' } }, required: ['do'] },
  set: { type: 'object', properties: { do: { enum: ['set'] }, to: { type: 'integer' } }, required: ['do', 'to'] },
};

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
    [
      { type: 'number', minimum: 0, maximum: 1 },
      ['0', '1', '0.0000001', '0.99', '1.000'],
      ['-0.1', '1.1', '1.0001', '1e0', '01'],
    ],
    [
      { type: 'number', minimum: -2.5, exclusiveMaximum: 10.25 },
      ['-2.5', '-2.500', '-0.3', '-1', '0', '9.99', '10', '10.2499999'],
      ['-2.51', '-3', '10.25', '10.250', '10.3', '11'],
    ],
    [{ type: 'number', exclusiveMinimum: 0, maximum: 1e-6 }, ['0.000001', '0.0000005'], ['0', '0.0', '0.000002', '-1']],
    [{ type: 'number', minimum: 1e9 }, ['1000000000', '999999999999999'], ['999999999', '5']],
    [{ type: 'number', maximum: -0.5 }, ['-0.5', '-0.50', '-12345678'], ['-0.4', '0', '0.5']],
    [
      { type: 'string', pattern: '^(?:[A-F]{2}-)?\\d{2,3}(x|[^a-z"]+)?$' },
      ['"12"', '"AB-123x"', '"123É"', '"99 \\u0001"', '"12\\\\"', '"12€😀"'],
      ['"1"', '"A-12"', '"12a"', '"12x "', '"1234a"', '"12\\""'],
    ],
    [{ pattern: '^(?:a*)*(b|b)*$' }, ['""', '"aab"', '"bb"'], ['"ba"', '"c"']],
    [{ pattern: 'b+$|^c' }, ['"b"', '"xbb"', '"c"', '"c!"'], ['"bx"', '"xc"', '""']],
    [{ type: 'string', pattern: '^[\\w.-]+\\/.$' }, ['"a.b-c/é"'], ['"a b/c"', '"a/\\n"', '"a/"']],
    [
      { type: 'string', format: 'date' },
      ['"2024-02-28"', '"1999-12-31"'],
      ['"2024-13-01"', '"2024-04-31"', '"24-01-01"'],
    ],
    [{ format: 'date-time' }, ['"2024-02-28T23:59:59.5Z"'], ['"2024-02-28"', '"2024-02-28T24:00:00Z"']],
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
    [
      { oneOf: [{ $ref: '#/$defs/on' }, { $ref: '#/$defs/set' }, { type: 'null' }], $defs: choices },
      ['{"do":"on"}', '{"do":"set","to":5}', 'null'],
      ['{"do":"on","to":5}', '{"do":"off"}', '{}'],
    ],
    [{ properties: { a: { allOf: [{ type: 'null' }], title: 'A' } } }, ['{"a":null}'], ['{"a":1}']],
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
    ['an unknown keyword', { type: 'string', contentEncoding: 'base64' }, '"contentEncoding" is not supported'],
    ['an assertion', { type: 'string', pattern: '^(?!a)b$' }, 'is not understood: an assertion'],
    ['a back reference', { type: 'string', pattern: '(a)\\1' }, 'is not understood: \\1'],
    ['a pattern that is not complete', { type: 'string', pattern: 'a(b' }, 'a ( without its )'],
    ['a pattern and a length', { type: 'string', pattern: 'a', maxLength: 3 }, 'pattern and maxLength are not'],
    ['a format', { type: 'string', format: 'iri' }, 'the format "iri" is not supported'],
    ['objects that nothing tells apart', { oneOf: [choices.on, { type: 'object' }] }, 'might meet together'],
    ['several schemas at once', { allOf: [{}, {}] }, 'holds several schemas'],
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
      { properties: { 'a/b': { items: { multipleOf: 2, type: 'integer' } } } },
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
