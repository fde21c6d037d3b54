import { OnnxError } from './errors.ts';
import type { Source } from './source.ts';

/** A field as it lies in its source: `[start, end)` with its tag, `[value, end)` its payload. A group counts as one field. */
export interface Field {
  readonly number: number;
  readonly wire: number;
  readonly start: number;
  readonly value: number;
  readonly end: number;
}

export const WIRE_VARINT = 0;
export const WIRE_FIXED64 = 1;
export const WIRE_BYTES = 2;
const WIRE_GROUP = 3;
const WIRE_END_GROUP = 4;
export const WIRE_FIXED32 = 5;

const maxGroupDepth = 100;
const maxVarintBytes = 10;

/**
 * The fields of the message in `[start, end)`, in their order. Payloads are skipped, never read.
 * Overlong varints are accepted (protobuf does), of up to 10 bytes.
 * @throws {OnnxError} `onnx/malformed`, naming the offset
 */
export function scanFields(source: Source, start: number, end: number): Field[] {
  const fields: Field[] = [];
  const cursor = new Cursor(source, start, end);
  while (cursor.offset < end) fields.push(cursor.field());
  return fields;
}

class Cursor {
  offset: number;
  readonly #source: Source;
  readonly #end: number;

  constructor(source: Source, start: number, end: number) {
    this.#source = source;
    this.offset = start;
    this.#end = end;
  }

  field(): Field {
    const start = this.offset;
    const tag = this.#tag();
    const wire = tag & 7;
    if (wire === WIRE_END_GROUP) throw this.#broken(start, 'a group ends that never began');
    const value = this.#skip(tag, start);
    return { number: tag >>> 3, wire, start, value, end: this.offset };
  }

  #tag(): number {
    const start = this.offset;
    const tag = this.varint();
    if (tag > 0xffff_ffff) throw this.#broken(start, 'a field number over 2^29');
    if (tag < 8) throw this.#broken(start, 'field number 0');
    return tag;
  }

  /** Moves past the payload; returns where it begins. */
  #skip(tag: number, start: number): number {
    const value = this.offset;
    switch (tag & 7) {
      case WIRE_VARINT:
        this.varint();
        return value;
      case WIRE_FIXED64:
        return this.#jump(start, 8);
      case WIRE_BYTES:
        return this.#jump(start, this.varint());
      case WIRE_GROUP:
        this.#group(tag >>> 3, start);
        return value;
      case WIRE_FIXED32:
        return this.#jump(start, 4);
      default:
        throw this.#broken(start, `wire type ${tag & 7}, which does not exist`);
    }
  }

  /** Checked before anything is allocated for it: a length is what the file says, not what it holds. */
  #jump(start: number, length: number): number {
    const value = this.offset;
    if (length > this.#end - value)
      throw this.#broken(start, `a field of ${length} bytes where ${Math.max(0, this.#end - value)} are left`);
    this.offset = value + length;
    return value;
  }

  #group(number: number, start: number): void {
    const open = [number];
    while (open.length > 0) {
      if (open.length > maxGroupDepth)
        throw new OnnxError('onnx/too-deep', `${this.#source.name}: groups nested more than ${maxGroupDepth} deep`, {
          where: `${this.#source.name}, byte ${start}`,
        });
      const at = this.offset;
      const tag = this.#tag();
      if ((tag & 7) === WIRE_GROUP) open.push(tag >>> 3);
      else if ((tag & 7) !== WIRE_END_GROUP) this.#skip(tag, at);
      else if (open.pop() !== tag >>> 3) throw this.#broken(at, 'a group ends that is not the one begun last');
    }
  }

  /** As a number: exact below 2^53, which is all that tags and lengths need. */
  varint(): number {
    let value = 0;
    let unit = 1;
    for (let i = 0; i < maxVarintBytes; i++) {
      if (this.offset >= this.#end) throw this.#broken(this.offset, 'it ends in the middle of a field');
      const byte = this.#source.byte(this.offset++);
      value += (byte & 127) * unit;
      if (byte < 128) return value;
      unit *= 128;
    }
    throw this.#broken(this.offset, 'a varint of more than 10 bytes');
  }

  #broken(offset: number, what: string): OnnxError {
    return new OnnxError('onnx/malformed', `${this.#source.name}: ${what}, at byte ${offset}`, {
      where: `${this.#source.name}, byte ${offset}`,
    });
  }
}

export function encodeVarint(value: number): Uint8Array {
  const bytes: number[] = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) {
      bytes.push(rest);
      return Uint8Array.from(bytes);
    }
    bytes.push((rest % 128) | 128);
  }
}

/** Tag and length of a length-delimited field. */
export function encodeHead(number: number, length: number): Uint8Array {
  const tag = encodeVarint(number * 8 + WIRE_BYTES);
  const size = encodeVarint(length);
  const head = new Uint8Array(tag.length + size.length);
  head.set(tag);
  head.set(size, tag.length);
  return head;
}
