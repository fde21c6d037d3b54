import type { DataType } from './types.ts';

/** IEEE 754 binary16. */
export function float16ToFloat(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

const word = new DataView(new ArrayBuffer(4));

/** The upper half of a float32. */
export function bfloat16ToFloat(bits: number): number {
  word.setUint32(0, bits << 16);
  return word.getFloat32(0);
}

/** @see Open Compute MX 1.0: E2M1, bias 1, no infinity, no NaN */
export function float4ToFloat(bits: number): number {
  return smallFloat(bits, { width: 4, fractionBits: 1, bias: 1 });
}

/** @see Open Compute MX 1.0: E2M3 (bias 1) and E3M2 (bias 3) */
export function float6ToFloat(bits: number, fractionBits: 2 | 3): number {
  return smallFloat(bits, { width: 6, fractionBits, bias: fractionBits === 3 ? 1 : 3 });
}

type Float8 = Extract<DataType, `float8${string}`>;

/** @see arXiv 2209.05433 (E4M3FN, E5M2), 2206.02915 (the FNUZ forms), Open Compute MX 1.0 (E8M0) */
export function float8ToFloat(bits: number, dtype: Float8): number {
  switch (dtype) {
    case 'float8e4m3fn':
      return (bits & 127) === 127 ? Number.NaN : smallFloat(bits, { width: 8, fractionBits: 3, bias: 7 });
    case 'float8e4m3fnuz':
      return bits === 128 ? Number.NaN : smallFloat(bits, { width: 8, fractionBits: 3, bias: 8 });
    case 'float8e5m2':
      // The upper half of a binary16.
      return float16ToFloat(bits << 8);
    case 'float8e5m2fnuz':
      return bits === 128 ? Number.NaN : smallFloat(bits, { width: 8, fractionBits: 2, bias: 16 });
    case 'float8e8m0':
      return bits === 255 ? Number.NaN : 2 ** (bits - 127);
  }
}

function smallFloat(bits: number, shape: { width: number; fractionBits: number; bias: number }): number {
  const { width, fractionBits, bias } = shape;
  const sign = (bits >> (width - 1)) & 1 ? -1 : 1;
  const exponent = (bits >> fractionBits) & ((1 << (width - 1 - fractionBits)) - 1);
  const fraction = (bits & ((1 << fractionBits) - 1)) / (1 << fractionBits);
  return exponent === 0 ? sign * fraction * 2 ** (1 - bias) : sign * (1 + fraction) * 2 ** (exponent - bias);
}
