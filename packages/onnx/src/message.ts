import { OnnxError } from './errors.ts';
import { Rope } from './rope.ts';
import { MemorySource, type Source } from './source.ts';
import { type Field, scanFields, WIRE_BYTES } from './wire.ts';

interface Range {
  readonly start: number;
  readonly end: number;
}

/** What a generated class offers to decode with. */
export interface Decoder<T> {
  decode(bytes: Uint8Array): T;
}

/** Messages may lie this deep in each other, the model itself being the first; a body of If or Loop takes three levels. */
export const maxDepth = 100;

/**
 * A protobuf message by its place in its source. More than one range means that a singular field was repeated: protobuf
 * merges such messages, and merging is the same as concatenating their bytes.
 */
export class Message {
  readonly source: Source;
  readonly depth: number;
  readonly #ranges: readonly Range[];

  constructor(source: Source, ranges: readonly Range[], depth: number) {
    if (depth > maxDepth)
      throw new OnnxError('onnx/too-deep', `${source.name}: messages nested more than ${maxDepth} deep`, {
        where: `${source.name}, byte ${ranges[0]?.start ?? 0}`,
        hint: 'a body of If, Loop or Scan counts as three levels',
      });
    this.source = source;
    this.#ranges = ranges;
    this.depth = depth;
  }

  /** Of bytes made here, by protobufjs. */
  static of(bytes: Uint8Array, depth = 1): Message {
    return new Message(new MemorySource(bytes), [{ start: 0, end: bytes.length }], depth);
  }

  /** In the order they lie in. Scanned anew at each call: a million nodes' fields are not worth keeping. */
  fields(): Field[] {
    const [first, ...more] = this.#ranges;
    if (first === undefined) return [];
    const fields = scanFields(this.source, first.start, first.end);
    for (const { start, end } of more) fields.push(...scanFields(this.source, start, end));
    return fields;
  }

  /** Those fields, decoded by the generated class; the others take its defaults and are not read. */
  decode<T>(type: Decoder<T>, fields: readonly Field[], numbers: ReadonlySet<number>): T {
    const wanted = new Rope();
    for (const { number, start, end } of fields) if (numbers.has(number)) wanted.addRange(this.source, start, end);
    try {
      return type.decode(wanted.toBytes());
    } catch (cause) {
      const offset = this.#ranges[0]?.start ?? 0;
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new OnnxError('onnx/malformed', `${this.source.name}: ${reason}, in the message at byte ${offset}`, {
        where: `${this.source.name}, byte ${offset}`,
        cause,
      });
    }
  }

  /** One embedded message. */
  at(field: Field): Message {
    return new Message(this.source, [{ start: field.value, end: field.end }], this.depth + 1);
  }

  /** A singular embedded message, merged if it is repeated; undefined if absent. */
  child(fields: readonly Field[], number: number): Message | undefined {
    const ranges: Range[] = [];
    for (const field of fields)
      if (field.number === number && field.wire === WIRE_BYTES) ranges.push({ start: field.value, end: field.end });
    return ranges.length === 0 ? undefined : new Message(this.source, ranges, this.depth + 1);
  }

  /** Its content, byte for byte. */
  rope(): Rope {
    const rope = new Rope();
    for (const { start, end } of this.#ranges) rope.addRange(this.source, start, end);
    return rope;
  }
}

/** The fields of a kind that are length-delimited, as embedded messages, strings and bytes are. */
export function bytesFields(fields: readonly Field[], number: number): Field[] {
  return fields.filter((field) => field.number === number && field.wire === WIRE_BYTES);
}
