import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type GoldenCase, type GoldenTensor, readGolden, writeGolden } from '../src/index.ts';
import { golden } from './sample.ts';

const arrays = {
  float32: (n: number) => Float32Array.from({ length: n }, (_, i) => (i === 0 ? Number.NaN : i / 3)),
  float64: (n: number) => Float64Array.from({ length: n }, (_, i) => i / 7),
  float16: (n: number) => Uint16Array.from({ length: n }, (_, i) => 0x3c00 + i),
  uint16: (n: number) => Uint16Array.from({ length: n }, (_, i) => 65_535 - i),
  int8: (n: number) => Int8Array.from({ length: n }, (_, i) => -i),
  uint8: (n: number) => Uint8Array.from({ length: n }, (_, i) => i),
  bool: (n: number) => Uint8Array.from({ length: n }, (_, i) => i % 2),
  int16: (n: number) => Int16Array.from({ length: n }, (_, i) => -i * 300),
  int32: (n: number) => Int32Array.from({ length: n }, (_, i) => -i * 70_000),
  uint32: (n: number) => Uint32Array.from({ length: n }, (_, i) => i * 70_000),
  int64: (n: number) => BigInt64Array.from({ length: n }, (_, i) => -BigInt(i) << 40n),
  uint64: (n: number) => BigUint64Array.from({ length: n }, (_, i) => BigInt(i) << 60n),
} as const;

const dtypes = Object.keys(arrays) as (keyof typeof arrays)[];

function tensor(dtype: keyof typeof arrays, dims: readonly number[]): GoldenTensor {
  return { dtype, dims, data: arrays[dtype](dims.reduce((a, b) => a * b, 1)) } as GoldenTensor;
}

function plain(cases: readonly GoldenCase[]): unknown {
  return cases.map(({ name, inputs, outputs }) => ({ name, inputs: { ...inputs }, outputs: { ...outputs } }));
}

/** A file with another header over the same data. */
function withHeader(json: string, data: Uint8Array): Uint8Array {
  const text = Buffer.from(json.padEnd(json.length + ((8 - (Buffer.byteLength(json) % 8)) % 8)));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([length, text, data]);
}

function headerOf(bytes: Uint8Array): { readonly json: string; readonly data: Uint8Array } {
  const length = Number(Buffer.from(bytes).readBigUInt64LE());
  return { json: Buffer.from(bytes.subarray(8, 8 + length)).toString(), data: bytes.subarray(8 + length) };
}

function refused(bytes: Uint8Array): void {
  expect(() => readGolden(bytes)).toThrow(expect.objectContaining({ name: 'PackError', code: 'pack/golden' }));
}

describe('what was written comes back', () => {
  test.each(dtypes)('%s: scalar, empty, matrix', (dtype) => {
    const cases = [
      { name: 'a', inputs: { s: tensor(dtype, []), e: tensor(dtype, [0, 3]) }, outputs: { m: tensor(dtype, [2, 3]) } },
    ];
    expect(plain(readGolden(writeGolden(cases)))).toEqual(cases);
  });

  test('any names, any mixture of types and sizes', () => {
    const names = fc.string({ minLength: 1, unit: 'grapheme' }).filter((name) => name.isWellFormed());
    const tensors = fc.dictionary(
      names,
      fc
        .tuple(fc.constantFrom(...dtypes), fc.array(fc.nat(4), { maxLength: 3 }))
        .map(([dtype, dims]) => tensor(dtype, dims)),
      { maxKeys: 4, noNullPrototype: true },
    );
    fc.assert(
      fc.property(
        fc.array(fc.record({ name: names, inputs: tensors, outputs: tensors }), { maxLength: 12 }),
        (cases) => {
          expect(plain(readGolden(writeGolden(cases)))).toEqual(cases);
        },
      ),
      { numRuns: 200, seed: 1 },
    );
  });

  test('names that objects treat specially', () => {
    const inputs = Object.fromEntries(
      ['__proto__', 'constructor', '7', 'a/b', ''].map((name) => [`x${name}`, tensor('int8', [1])]),
    );
    const [first] = readGolden(writeGolden([{ name: '__proto__', inputs, outputs: {} }]));
    expect(Object.keys(first?.inputs ?? {}).toSorted()).toEqual(Object.keys(inputs).toSorted());
  });

  test('from views at odd offsets', () => {
    const data = new Float32Array(new Uint8Array(36).buffer, 4, 8).fill(1.5);
    const [first] = readGolden(
      writeGolden([{ name: 'a', inputs: { x: { dtype: 'float32', dims: [8], data } }, outputs: {} }]),
    );
    expect(first?.inputs['x']?.data).toEqual(Float32Array.from({ length: 8 }, () => 1.5));
  });

  test('the same cases are the same bytes, in whatever order their tensors were named', () => {
    const a = tensor('int64', [2]);
    const b = tensor('uint8', [3]);
    const one = writeGolden([{ name: 'x', inputs: { a, b }, outputs: {} }]);
    expect(writeGolden([{ name: 'x', inputs: { b, a }, outputs: {} }])).toEqual(one);
  });
});

test('the layout is that of safetensors', () => {
  const { json, data } = headerOf(golden);
  expect(json.trimEnd()).toBe(
    '{"__metadata__":{"case/0":"one"},' +
      '"case/0/out/y":{"dtype":"I64","shape":[3],"data_offsets":[0,24]},' +
      '"case/0/in/x":{"dtype":"F32","shape":[1,2],"data_offsets":[24,32]}}',
  );
  expect((8 + json.length) % 8).toBe(0);
  expect(data).toHaveLength(32);
});

test('what cannot be written', () => {
  const text: GoldenTensor = { dtype: 'string', dims: [1], data: ['a'] };
  const short: GoldenTensor = { dtype: 'int8', dims: [3], data: Int8Array.of(1) };
  const negative: GoldenTensor = { dtype: 'int8', dims: [-1, -1], data: Int8Array.of(1) };
  for (const x of [text, short, negative])
    expect(() => writeGolden([{ name: 'a', inputs: { x }, outputs: {} }])).toThrow(
      expect.objectContaining({ code: 'pack/golden' }),
    );
});

describe('#32 #33 what cannot be read', () => {
  const { json, data } = headerOf(golden);

  test('#32 every prefix, and bytes after the end', () => {
    for (let length = 0; length < golden.length; length++) refused(golden.subarray(0, length));
    refused(Buffer.concat([golden, Buffer.from('x')]));
  });

  test.each([0n, 1n, 7n, 9n, 1n << 40n, (1n << 64n) - 1n])('#32 a header of %s bytes', (length) => {
    const bytes = Buffer.from(golden);
    bytes.writeBigUInt64LE(length);
    refused(bytes);
  });

  test.each([
    ['not JSON', json, '{'],
    ['not an object', json, '[1]'],
    ['invalid UTF-8', 'case/0/in/x', 'case/0/in/\u00ff'],
    ['no metadata', '"__metadata__":{"case/0":"one"},', ''],
    ['a name that is no case', 'case/0/in/x', 'case/1/in/x'],
    ['a name of no side', 'case/0/in/x', 'case/0/at/x'],
    ['a case not numbered from 0', '"case/0":"one"', '"case/1":"one"'],
    ['an unknown dtype', '"F32"', '"F8_E4M3"'],
    ['a dtype that objects have', '"F32"', '"constructor"'],
    ['an overlap', '[24,32]', '[16,24]'],
    ['a gap', '[24,32]', '[25,33]'],
    ['a start inside another', '[24,32]', '[20,32]'],
    ['an end before the start', '[24,32]', '[32,24]'],
    ['an end outside', '[24,32]', '[24,4000000000]'],
    ['a shape that overflows', '[1,2]', '[2,9223372036854775807]'],
    ['a shape whose product is right modulo 2⁶⁴', '[1,2]', '[3037000500,3037000500]'],
    ['a negative shape', '[1,2]', '[-1,-2]'],
    ['a fraction in a shape', '[1,2]', '[0.5,4]'],
    ['text in a shape', '[1,2]', '["1",2]'],
    ['a thousand dims', '[1,2]', `[${'1,'.repeat(1_000)}2]`],
    ['white space', '{"dtype"', '{ "dtype"'],
    ['a member twice', '"dtype":"F32"', '"dtype":"F32","dtype":"F32"'],
  ])('#33 %s', (_, from, to) => {
    expect(json).toContain(from);
    const changed = withHeader(json.trimEnd().replace(from.trimEnd(), to), data);
    if (_ === 'invalid UTF-8') changed[changed.indexOf(0xc3)] = 0xff;
    refused(changed);
  });

  test('#33 a tensor twice', () => {
    const twice = json.trimEnd().replace(/}$/, `,${/"case\/0\/in\/x".*]}/.exec(json)?.[0]}}`);
    expect(() => JSON.parse(twice)).not.toThrow();
    refused(withHeader(twice, data));
  });

  test('#33 fifty thousand tensors take no time that grows with their square', () => {
    const inputs = Object.fromEntries(Array.from({ length: 50_000 }, (_, i) => [`x${i}`, tensor('int8', [1])]));
    const bytes = writeGolden([{ name: 'a', inputs, outputs: {} }]);
    expect(Object.keys(readGolden(bytes)[0]?.inputs ?? {})).toHaveLength(50_000);
  }, 30_000); // 0.3 s on an idle machine; a square would take minutes
});
