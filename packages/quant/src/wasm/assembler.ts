/**
 * As much of WebAssembly as numeric kernels need: instructions on numbers and on pairs of float64, loops, one function over
 * an imported memory. Written by hand because a kernel is a page of code, and a compiler for it would be a dependency.
 * @see WebAssembly Core 2.0, chapter 5 (binary format)
 */
export type Code = readonly number[];
export type ValueType = 'i32' | 'f64x2';

const TYPES = { i32: 0x7f, f64x2: 0x7b } as const;

/** A variable of the function. */
export interface Local {
  readonly index: number;
  readonly get: Code;
  set(value: Code): Code;
}

export const i32 = {
  const: (value: number): Code => [0x41, ...signed(value)],
  add: binary(0x6a),
  sub: binary(0x6b),
  mul: binary(0x6c),
  divU: binary(0x6e),
  remU: binary(0x70),
  ltU: binary(0x49),
  geU: binary(0x4f),
  loadByte: (address: Code): Code => [...address, 0x2d, 0, 0],
  storeByte: (address: Code, value: Code): Code => [...address, ...value, 0x3a, 0, 0],
  /** `condition ? a : b`; both are computed. */
  select: (condition: Code, a: Code, b: Code): Code => [...a, ...b, ...condition, 0x1b],
};

export const f32 = {
  /** As float64. */
  loadWide: (address: Code): Code => [...address, 0x2a, 2, 0, 0xbb],
  /** @param value float64 that float32 holds exactly */
  storeNarrow: (address: Code, value: Code): Code => [...address, ...value, 0xb6, 0x38, 2, 0],
};

/** Pairs of float64; masks are all ones or all zeros in each half. */
export const f64x2 = {
  const: (value: number): Code => [0x44, ...new Uint8Array(Float64Array.of(value).buffer), ...simd(0x14)],
  pair: (low: Code, high: Code): Code => [...low, ...simd(0x14), ...high, ...simd(0x22), 1],
  half: (pair: Code, index: 0 | 1): Code => [...pair, ...simd(0x21), index],
  load: (address: Code): Code => [...address, ...simd(0x00), 3, 0],
  /** One number for both halves. */
  loadSplat: (address: Code): Code => [...address, ...simd(0x0a), 3, 0],
  store: (address: Code, value: Code): Code => [...address, ...value, ...simd(0x0b), 3, 0],
  add: binarySimd(0xf0),
  sub: binarySimd(0xf1),
  mul: binarySimd(0xf2),
  div: binarySimd(0xf3),
  /** `b < a ? b : a`, one instruction where `min` needs several for NaN and −0. */
  min: binarySimd(0xf6),
  max: binarySimd(0xf7),
  lt: binarySimd(0x49),
  gt: binarySimd(0x4a),
  ge: binarySimd(0x4c),
  and: binarySimd(0x4e),
  floor: unarySimd(0x75),
  /** Ties to even. */
  nearest: unarySimd(0x94),
  neg: unarySimd(0xed),
  choose: (mask: Code, yes: Code, no: Code): Code => [...yes, ...no, ...mask, ...simd(0x52)],
  anyBit: (value: Code): Code => [...value, ...simd(0x53)],
  /** Rounded to float32. */
  narrowed: (value: Code): Code => [...value, ...simd(0x5e), ...simd(0x5f)],
  /** Rounded to float32 and from that to bfloat16, ties to even. @param bits a local for what is between */
  narrowedTwice: (value: Code, bits: Local): Code => [
    ...bits.set([...value, ...simd(0x5e)]),
    ...bits.get,
    ...[...bits.get, ...i32.const(16), ...simd(0xad), ...int32x4(1), ...simd(0x4e)],
    ...[...simd(0xae), ...int32x4(0x7fff), ...simd(0xae), ...int32x4(-65536), ...simd(0x4e)],
    ...simd(0x5f),
  ],
  /** Whole numbers as int32. */
  toInt: (pair: Code, index: 0 | 1): Code => [...pair, ...simd(0xfc), ...simd(0x1b), index],
};

/** `for (at = 0; at < end; at += step) body` */
export function count(at: Local, end: Code, step: number, body: Code): Code {
  const leave = [...at.get, ...end, 0x4f, 0x0d, 1];
  const next = at.set(i32.add(at.get, i32.const(step)));
  return [...at.set(i32.const(0)), 0x02, 0x40, 0x03, 0x40, ...leave, ...body, ...next, 0x0c, 0, 0x0b, 0x0b];
}

export const when = (condition: Code, body: Code): Code => [...condition, 0x04, 0x40, ...body, 0x0b];

/** A function of int32 parameters that gives an int32. */
export class FunctionCode {
  readonly #parameters: number;
  readonly #locals: ValueType[] = [];

  constructor(parameters: number) {
    this.#parameters = parameters;
  }

  parameter(index: number): Local {
    return localAt(index);
  }

  local(type: ValueType): Local {
    this.#locals.push(type);
    return localAt(this.#parameters + this.#locals.length - 1);
  }

  /** A module that imports `env.memory` and exports the function as `run`. */
  module(body: Code): Uint8Array {
    const locals = this.#locals.map((type) => [1, TYPES[type]]);
    const code = [...list(locals), ...body, 0x0b];
    const type = [0x60, ...list(Array.from({ length: this.#parameters }, () => [TYPES.i32])), 1, TYPES.i32];
    return Uint8Array.from([
      ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
      ...section(1, [type]),
      ...section(2, [[...text('env'), ...text('memory'), 2, 0, 0]]),
      ...section(3, [[0]]),
      ...section(7, [[...text('run'), 0, 0]]),
      ...section(10, [[...unsigned(code.length), ...code]]),
    ]);
  }
}

function localAt(index: number): Local {
  const at = unsigned(index);
  return { index, get: [0x20, ...at], set: (value) => [...value, 0x21, ...at] };
}

function binary(opcode: number) {
  return (a: Code, b: Code): Code => [...a, ...b, opcode];
}

function binarySimd(opcode: number) {
  return (a: Code, b: Code): Code => [...a, ...b, ...simd(opcode)];
}

function unarySimd(opcode: number) {
  return (a: Code): Code => [...a, ...simd(opcode)];
}

function simd(opcode: number): Code {
  return [0xfd, ...unsigned(opcode)];
}

function int32x4(value: number): Code {
  return [...i32.const(value), ...simd(0x11)];
}

function section(id: number, items: readonly Code[]): Code {
  const content = list(items);
  return [id, ...unsigned(content.length), ...content];
}

function list(items: readonly Code[]): Code {
  return [...unsigned(items.length), ...items.flat()];
}

function text(word: string): Code {
  return [...unsigned(word.length), ...Array.from(word, (letter) => letter.charCodeAt(0))];
}

/** LEB128. */
function unsigned(value: number): Code {
  return value < 128 ? [value] : [(value & 127) | 128, ...unsigned(value >>> 7)];
}

function signed(value: number): Code {
  const last = value >= -64 && value < 64;
  return last ? [value & 127] : [(value & 127) | 128, ...signed(value >> 7)];
}
