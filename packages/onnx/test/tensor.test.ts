import { describe, expect, test } from 'vitest';
import {
  buildModel,
  checkModel,
  type DataType,
  decodeModel,
  encodeModel,
  floats,
  integers,
  strings,
  tensorFromFloats,
  tensorFromInts,
  tensorInfo,
} from '../src/index.ts';
import { expectCode, field, int, reluModel, tensor, varint } from './raw.ts';

const only = (bytes: Uint8Array) => {
  const [found] = decodeModel(bytes).graph.initializers.values();
  if (found === undefined) throw new Error('no tensor');
  return found;
};

const float32 = (...values: number[]) => Buffer.from(Float32Array.from(values).buffer);
const packed = (...values: number[]) => Buffer.concat(values.map(varint));
/** int64 −n on the wire: ten bytes. */
const negative = (n: number) => {
  const bits = BigInt.asUintN(64, BigInt(-n));
  return Buffer.from(Array.from({ length: 10 }, (_, i) => Number((bits >> BigInt(7 * i)) & 127n) | (i < 9 ? 128 : 0)));
};

describe('the elements come out alike, whatever field they lie in', () => {
  test.each<readonly [string, DataType, Buffer, readonly number[]]>([
    ['raw_data', 'float32', tensor('w', [2], int(2, 1), field(9, float32(1, -2.5))), [1, -2.5]],
    ['float_data', 'float32', tensor('w', [2], int(2, 1), field(4, float32(1, -2.5))), [1, -2.5]],
    [
      'double_data',
      'float64',
      tensor('w', [1], int(2, 11), field(10, Buffer.from(Float64Array.of(0.1).buffer))),
      [Math.fround(0.1)],
    ],
    ['int32_data', 'int32', tensor('w', [3], int(2, 6), field(5, packed(7), negative(3)), int(5, 300)), [7, -3, 300]],
    ['int32_data as int8', 'int8', tensor('w', [2], int(2, 3), field(5, negative(128), packed(127))), [-128, 127]],
    ['int32_data as uint16', 'uint16', tensor('w', [2], int(2, 4), field(5, packed(65535, 1))), [65535, 1]],
    ['int32_data as bool', 'bool', tensor('w', [2], int(2, 9), field(5, packed(1, 0))), [1, 0]],
    [
      'int32_data as float16',
      'float16',
      tensor('w', [3], int(2, 10), field(5, packed(0x3c00, 0xc100, 1))),
      [1, -2.5, 2 ** -24],
    ],
    ['int32_data as bfloat16', 'bfloat16', tensor('w', [2], int(2, 16), field(5, packed(0x3f80, 0xc020))), [1, -2.5]],
    ['int32_data as int4, odd', 'int4', tensor('w', [3], int(2, 22), field(5, packed(0x78, 0x0f))), [-8, 7, -1]],
    ['int32_data as uint2', 'uint2', tensor('w', [5], int(2, 25), field(5, packed(0b11100100, 2))), [0, 1, 2, 3, 2]],
    [
      'int32_data as float6',
      'float6e2m3',
      tensor('w', [5], int(2, 27), field(5, packed(8, 40, 31, 1, 63))),
      [1, -1, 7.5, 0.125, -7.5],
    ],
    ['raw float4', 'float4e2m1', tensor('w', [4], int(2, 23), field(9, Buffer.from([0x72, 0xf1]))), [1, 6, 0.5, -6]],
    [
      'raw float8e4m3fn',
      'float8e4m3fn',
      tensor('w', [3], int(2, 17), field(9, Buffer.from([0x38, 0x7e, 0x81]))),
      [1, 448, -(2 ** -9)],
    ],
    [
      'raw float8e5m2',
      'float8e5m2',
      tensor('w', [2], int(2, 19), field(9, Buffer.from([0x3c, 0xfc]))),
      [1, Number.NEGATIVE_INFINITY],
    ],
    ['raw float8e8m0', 'float8e8m0', tensor('w', [2], int(2, 24), field(9, Buffer.from([127, 130]))), [1, 8]],
    [
      'int64_data',
      'int64',
      tensor('w', [2], int(2, 7), field(7, packed(2 ** 40), negative(2 ** 40))),
      [2 ** 40, -(2 ** 40)],
    ],
    ['uint64_data as uint32', 'uint32', tensor('w', [1], int(2, 12), field(11, packed(2 ** 32 - 1))), [2 ** 32]],
    ['0 elements', 'float32', tensor('w', [3, 0], int(2, 1)), []],
    ['a scalar', 'float32', tensor('w', [], int(2, 1), field(4, float32(3))), [3]],
  ])('%s', (_, dtype, bytes, expected) => {
    const found = only(reluModel(bytes));
    expect(found.dtype).toBe(dtype);
    expect([...floats(found)]).toEqual(expected.map(Math.fround));
    expect(found.bytes().length).toBe(found.byteLength);
    expect(() => checkModel(decodeModel(reluModel(bytes)))).not.toThrow();
  });

  test('integers and strings', () => {
    expect(integers(only(reluModel(tensor('w', [1], int(2, 12), field(11, packed(2 ** 32 - 1))))))).toEqual([
      2 ** 32 - 1,
    ]);
    const text = only(reluModel(tensor('w', [2], int(2, 8), field(6, 'a'), field(6, 'ü'))));
    expect(strings(text)).toEqual(['a', 'ü']);
    expectCode(() => text.bytes(), 'onnx/data-type');
    expectCode(() => floats(text), 'onnx/data-type');
  });

  test('views: raw data of a model in memory is not copied', () => {
    const bytes = reluModel(tensor('w', [2]));
    expect(only(bytes).bytes().buffer).toBe(bytes.buffer);
  });
});

describe('#12 dims that cannot be counted are refused', () => {
  test.each([
    ['2^40 without data', [2 ** 40]],
    ['2^33 by 2^33', [2 ** 33, 2 ** 33]],
    ['a product over 2^53', [2 ** 30, 2 ** 30]],
  ])('%s', (_, dims) => {
    const code = dims.length === 1 ? 'onnx/tensor-data' : 'onnx/dims';
    expectCode(() => decodeModel(reluModel(tensor('w', dims, int(2, 1)))), code, /"w"/);
  });
});

test('#13 negative dims are refused, 0 kept', () => {
  const dims = (dim: Buffer) => reluModel(field(5, Buffer.from([8]), dim, int(2, 1), field(8, 'w')));
  expectCode(() => decodeModel(dims(negative(1))), 'onnx/dims', /dimension of -1/);
  expectCode(() => decodeModel(dims(negative(2 ** 40))), 'onnx/dims');
  const empty = dims(varint(0));
  expect(Buffer.from(encodeModel(decodeModel(empty)))).toEqual(empty);
});

describe('#14 data that does not fit is refused', () => {
  test.each([
    ['raw too short', tensor('w', [2], int(2, 1), field(9, Buffer.alloc(7)))],
    ['raw too long', tensor('w', [2], int(2, 1), field(9, Buffer.alloc(12)))],
    ['int4 with a byte per element', tensor('w', [3], int(2, 22), field(9, Buffer.alloc(3)))],
    ['none', tensor('w', [2], int(2, 1))],
    ['string data of another count', tensor('w', [2], int(2, 8), field(6, 'one'))],
  ])('%s', (_, bytes) => expectCode(() => decodeModel(reluModel(bytes)), 'onnx/tensor-data', /"w"/));

  test.each([
    ['float_data too long', tensor('w', [2], int(2, 1), field(4, Buffer.alloc(12)))],
    ['int64_data too short', tensor('w', [2], int(2, 7), field(7, packed(1)))],
    ['int4 in int32_data, one value per element', tensor('w', [4], int(2, 22), field(5, packed(1, 2, 3, 4)))],
  ])('%s, when it is read or checked', (_, bytes) => {
    const opened = decodeModel(reluModel(bytes));
    expectCode(() => [...opened.graph.initializers.values()][0]?.bytes(), 'onnx/tensor-data');
    expectCode(() => checkModel(opened), 'onnx/tensor-data');
  });

  test('an odd int4 has half a byte of padding, which is kept', () => {
    const bytes = reluModel(tensor('w', [3], int(2, 22), field(9, Buffer.from([0x21, 0xf3]))));
    expect(integers(only(bytes))).toEqual([1, 2, 3]);
    expect(Buffer.from(encodeModel(decodeModel(bytes)))).toEqual(bytes);
  });
});

describe('#15 two places, or the wrong one, are refused', () => {
  test.each([
    ['raw_data and float_data', tensor('w', [1], int(2, 1), field(9, float32(1)), field(4, float32(1)))],
    ['float_data and int32_data', tensor('w', [1], int(2, 1), field(4, float32(1)), field(5, packed(1)))],
    ['int32_data for float32', tensor('w', [1], int(2, 1), field(5, packed(1)))],
    ['strings with raw data', tensor('w', [1], int(2, 8), field(9, 'text'))],
    ['strings for float32', tensor('w', [1], int(2, 1), field(6, 'text'))],
    [
      'raw and external data',
      tensor('w', [1], int(2, 1), field(9, float32(1)), int(14, 1), field(13, field(1, 'location'), field(2, 'f'))),
    ],
  ])('%s', (_, bytes) => expectCode(() => decodeModel(reluModel(bytes)), 'onnx/tensor-data'));
});

test('#16 types that do not exist, and segments, are refused', () => {
  for (const code of [0, 9999])
    expectCode(
      () => decodeModel(reluModel(tensor('w', [1], int(2, code), field(9, float32(1))))),
      'onnx/data-type',
      /does not define/,
    );
  expectCode(
    () => decodeModel(reluModel(tensor('w', [1], int(2, 1), field(3, int(1, 0)), field(9, float32(1))))),
    'onnx/segment',
    /not supported/,
  );
});

test('new tensors', () => {
  const initializers = {
    f: tensorFromFloats([2], [1, 2]),
    i: tensorFromInts('int4', [3], [-8, 7, -1]),
    b: tensorFromInts('bool', [2], [1, 0]),
  };
  const built = buildModel({
    opset: 17,
    inputs: [],
    outputs: [tensorInfo('f', 'float32', [2])],
    nodes: [],
    initializers,
  });
  const again = decodeModel(encodeModel(built)).graph.initializers;
  expect([...again.values()].map((each) => [...floats(each)])).toEqual([
    [1, 2],
    [-8, 7, -1],
    [1, 0],
  ]);
  expectCode(() => tensorFromInts('int8', [1], [128]), 'onnx/tensor-data', /128 does not fit int8/);
  expectCode(() => tensorFromInts('float16', [1], [1]), 'onnx/data-type');
  expectCode(() => built.graph.addInitializer('x', tensorFromFloats([3], [1])), 'onnx/tensor-data');
  expectCode(() => built.graph.addInitializer('x', tensorFromFloats([-1], [])), 'onnx/dims');
});
