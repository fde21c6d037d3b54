import type { DataType } from './types.ts';

interface Facts {
  /** TensorProto.DataType. */
  readonly code: number;
  /** Bits per element in `raw_data`; 0 for strings, which have no raw form. */
  readonly bits: number;
}

/** @see onnx.proto TensorProto.DataType, and the layout rules at `raw_data` */
const facts: ReadonlyMap<DataType, Facts> = new Map<DataType, Facts>([
  ['float32', { code: 1, bits: 32 }],
  ['uint8', { code: 2, bits: 8 }],
  ['int8', { code: 3, bits: 8 }],
  ['uint16', { code: 4, bits: 16 }],
  ['int16', { code: 5, bits: 16 }],
  ['int32', { code: 6, bits: 32 }],
  ['int64', { code: 7, bits: 64 }],
  ['string', { code: 8, bits: 0 }],
  ['bool', { code: 9, bits: 8 }],
  ['float16', { code: 10, bits: 16 }],
  ['float64', { code: 11, bits: 64 }],
  ['uint32', { code: 12, bits: 32 }],
  ['uint64', { code: 13, bits: 64 }],
  ['complex64', { code: 14, bits: 64 }],
  ['complex128', { code: 15, bits: 128 }],
  ['bfloat16', { code: 16, bits: 16 }],
  ['float8e4m3fn', { code: 17, bits: 8 }],
  ['float8e4m3fnuz', { code: 18, bits: 8 }],
  ['float8e5m2', { code: 19, bits: 8 }],
  ['float8e5m2fnuz', { code: 20, bits: 8 }],
  ['uint4', { code: 21, bits: 4 }],
  ['int4', { code: 22, bits: 4 }],
  ['float4e2m1', { code: 23, bits: 4 }],
  ['float8e8m0', { code: 24, bits: 8 }],
  ['uint2', { code: 25, bits: 2 }],
  ['int2', { code: 26, bits: 2 }],
  ['float6e2m3', { code: 27, bits: 6 }],
  ['float6e3m2', { code: 28, bits: 6 }],
]);

const byCode: ReadonlyMap<number, DataType> = new Map([...facts].map(([dtype, { code }]) => [code, dtype]));

/** The type that a file's number stands for; undefined for 0 and what ONNX does not define. */
export function dataTypeOf(code: number): DataType | undefined {
  return byCode.get(code);
}

export function codeOf(dtype: DataType): number {
  return facts.get(dtype)?.code ?? 0;
}

export function bitsOf(dtype: DataType): number {
  return facts.get(dtype)?.bits ?? 0;
}

/** Bytes of so many elements in `raw_data` layout: 2- and 4-bit types are packed, the last byte padded. */
export function rawBytes(dtype: DataType, elements: number): number {
  return Math.ceil((elements * bitsOf(dtype)) / 8);
}
