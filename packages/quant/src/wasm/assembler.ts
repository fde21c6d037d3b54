/**
 * As much of WebAssembly as numeric kernels need: instructions on numbers and on vectors of 128 bits, loops, one function
 * over an imported memory. Written by hand because a kernel is a page of code, and a compiler for it would be a dependency.
 * Nothing of it is left to the machine: relaxed SIMD is not used.
 * @see WebAssembly Core 2.0, chapter 5 (binary format)
 */
export type Code = readonly number[];
export type ValueType = 'i32' | 'v128';

const TYPES = { i32: 0x7f, v128: 0x7b } as const;

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
  load: (address: Code): Code => [...address, 0x28, 0, 0],
  /** `condition ? a : b`; both are computed. */
  select: (condition: Code, a: Code, b: Code): Code => [...a, ...b, ...condition, 0x1b],
};

/** 128 bits, whatever they are; a mask is all ones or all zeros in each lane. */
export const v128 = {
  load: (address: Code, offset = 0): Code => [...address, ...simd(0x00), 0, ...unsigned(offset)],
  store: (address: Code, value: Code): Code => [...address, ...value, ...simd(0x0b), 0, 0],
  /** The lowest 8 bytes. */
  storeHalf: (address: Code, value: Code): Code => [...address, ...value, ...simd(0x5b), 0, 0, 0],
  /** 4 bytes for each of the four lanes, from four places. */
  gather: ([first = [], ...rest]: readonly Code[]): Code =>
    rest.reduce<Code>(
      (vector, address, index) => [...address, ...vector, ...simd(0x56), 0, 0, index + 1],
      [...first, ...simd(0x5c), 0, 0],
    ),
  storeByte: (address: Code, value: Code, index: number): Code => [...address, ...value, ...simd(0x58), 0, 0, index],
  storeLane: (address: Code, value: Code, index: number): Code => [...address, ...value, ...simd(0x5a), 0, 0, index],
  and: binarySimd(0x4e),
  or: binarySimd(0x50),
  choose: (mask: Code, yes: Code, no: Code): Code => [...yes, ...no, ...mask, ...simd(0x52)],
  anyBit: (value: Code): Code => [...value, ...simd(0x53)],
};

/** Eight lanes of 16 bits. */
export const i16x8 = {
  const: (value: number): Code => constant(Int16Array.of(value), 8),
  add: binarySimd(0x8e),
  mul: binarySimd(0x95),
  min: binarySimd(0x96),
  max: binarySimd(0x98),
  shiftRight: (value: Code, bits: number): Code => [...value, ...i32.const(bits), ...simd(0x8c)],
  shiftRightUnsigned: (value: Code, bits: number): Code => [...value, ...i32.const(bits), ...simd(0x8d)],
  /** `(a · b + 2¹⁴) >> 15` */
  mulShare: binarySimd(0x82),
  /** The lanes of both as bytes, those under 0 or over 255 cut off. */
  narrowed: binarySimd(0x66),
};

/** Four lanes of 32 bits. */
export const i32x4 = {
  const: (value: number): Code => constant(Int32Array.of(value), 4),
  /** One number for all lanes. */
  loadSplat: (address: Code, offset = 0): Code => [...address, ...simd(0x09), 0, ...unsigned(offset)],
  add: binarySimd(0xae),
  shiftLeft: (value: Code, bits: number): Code => [...value, ...i32.const(bits), ...simd(0xab)],
  shiftRightUnsigned: (value: Code, bits: number): Code => [...value, ...i32.const(bits), ...simd(0xad)],
  /** `a₀ · b₀ + a₁ · b₁` of two lanes of 16 bits for each of 32. */
  dot: binarySimd(0xba),
};

/** Four lanes of float32. */
export const f32x4 = {
  const: (value: number): Code => constant(Float32Array.of(value), 4),
  add: binarySimd(0xe4),
  sub: binarySimd(0xe5),
  mul: binarySimd(0xe6),
  div: binarySimd(0xe7),
  /** `b < a ? b : a`, one instruction where `min` needs several for NaN and −0. */
  min: binarySimd(0xea),
  max: binarySimd(0xeb),
  lt: binarySimd(0x43),
  gt: binarySimd(0x44),
  ge: binarySimd(0x46),
  /** Ties to even. */
  nearest: unarySimd(0x6a),
  neg: unarySimd(0xe1),
  fromInt: unarySimd(0xfa),
  /** Rounded to bfloat16, ties to even. @param bits a local for what is between */
  bfloat16: (value: Code, bits: Local): Code => [
    ...bits.set(value),
    ...v128.and(
      i32x4.add(
        i32x4.add(bits.get, i32x4.const(0x7fff)),
        v128.and(i32x4.shiftRightUnsigned(bits.get, 16), i32x4.const(1)),
      ),
      i32x4.const(-65536),
    ),
  ],
};

/** Two lanes of float64. */
export const f64x2 = {
  const: (value: number): Code => constant(Float64Array.of(value), 2),
  sub: binarySimd(0xf1),
  div: binarySimd(0xf3),
  /** As `f32x4.min`. */
  min: binarySimd(0xf6),
  max: binarySimd(0xf7),
  add: binarySimd(0xf0),
  floor: unarySimd(0x75),
  neg: unarySimd(0xed),
  /** The lower or the upper half of four float32. */
  widened: (value: Code, half: 0 | 1): Code => [...(half === 0 ? value : shuffled(value, value, 8, 8)), ...simd(0x5f)],
  /** Four float32 of two pairs. */
  narrowed: (low: Code, high: Code): Code => shuffled([...low, ...simd(0x5e)], [...high, ...simd(0x5e)], 0, 16),
};

/** One lane's value in all of them. */
function constant(lane: ArrayBufferView, lanes: number): Code {
  const bytes = new Uint8Array(lane.buffer, lane.byteOffset, lane.byteLength);
  return [...simd(0x0c), ...Array.from({ length: lanes }, () => [...bytes]).flat()];
}

/** 8 bytes of `a` and 8 of `b`, from those places of both side by side. */
function shuffled(a: Code, b: Code, first: number, second: number): Code {
  const places = [first, second].flatMap((from) => Array.from({ length: 8 }, (_, i) => from + i));
  return [...a, ...b, ...simd(0x0d), ...places];
}

/** `for (at = start; at < end; at += step) body`; a start that is left out is 0. */
export function count(at: Local, end: Code, step: number, body: Code, start: Code = i32.const(0)): Code {
  const goesOn = i32.ltU(at.get, end);
  const next = at.set(i32.add(at.get, i32.const(step)));
  return [...at.set(start), ...when(goesOn, [0x03, 0x40, ...body, ...next, ...goesOn, 0x0d, 0, 0x0b])];
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
