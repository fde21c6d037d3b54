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
  readonly start: number;
  readonly end: number;
  readonly depth: number;
  /** Those after the first, hardly ever any. */
  readonly more: readonly Range[];

  constructor(source: Source, { start, end }: Range, depth: number, more: readonly Range[] = none) {
    if (depth > maxDepth)
      throw new OnnxError('onnx/too-deep', `${source.name}: messages nested more than ${maxDepth} deep`, {
        where: `${source.name}, byte ${start}`,
        hint: 'a body of If, Loop or Scan counts as three levels',
      });
    this.source = source;
    this.start = start;
    this.end = end;
    this.depth = depth;
    this.more = more;
  }

  /** Of bytes made here, by protobufjs. */
  static of(bytes: Uint8Array, depth = 1): Message {
    return new Message(new MemorySource(bytes), { start: 0, end: bytes.length }, depth);
  }

  /** In the order they lie in. Scanned anew at each call: a million nodes' fields are not worth keeping. */
  fields(): Field[] {
    const fields = scanFields(this.source, this.start, this.end);
    for (const { start, end } of this.more) for (const field of scanFields(this.source, start, end)) fields.push(field);
    return fields;
  }

  /** Those fields, decoded by the generated class; the others take its defaults and are not read. */
  decode<T>(type: Decoder<T>, fields: readonly Field[], numbers: ReadonlySet<number>): T {
    try {
      return type.decode(this.#pick(fields, numbers));
    } catch (cause) {
      if (cause instanceof OnnxError) throw cause;
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new OnnxError('onnx/malformed', `${this.source.name}: ${reason}, in the message at byte ${this.start}`, {
        where: `${this.source.name}, byte ${this.start}`,
        cause,
      });
    }
  }

  /** The bytes of those fields; a view where they lie together, as they mostly do. */
  #pick(fields: readonly Field[], numbers: ReadonlySet<number>): Uint8Array {
    const first = fields.findIndex(({ number }) => numbers.has(number));
    const last = fields.findLastIndex(({ number }) => numbers.has(number));
    const [from, to] = [fields[first], fields[last]];
    if (from === undefined || to === undefined) return nothing;
    const wanted = fields.slice(first, last + 1);
    if (wanted.every(({ number }) => numbers.has(number)) && this.more.length === 0)
      return this.source.read(from.start, to.end);
    const rope = new Rope();
    for (const { number, start, end } of wanted) if (numbers.has(number)) rope.addRange(this.source, start, end);
    return rope.toBytes();
  }

  /** One embedded message. */
  at(field: Field): Message {
    return new Message(this.source, { start: field.value, end: field.end }, this.depth + 1);
  }

  /** A singular embedded message, merged if it is repeated; undefined if absent. */
  child(fields: readonly Field[], number: number): Message | undefined {
    const ranges: Range[] = [];
    for (const field of fields)
      if (field.number === number && field.wire === WIRE_BYTES) ranges.push({ start: field.value, end: field.end });
    const [first, ...more] = ranges;
    return first === undefined ? undefined : new Message(this.source, first, this.depth + 1, more);
  }

  /** Its content, byte for byte. */
  rope(): Rope {
    const rope = new Rope();
    rope.addRange(this.source, this.start, this.end);
    for (const { start, end } of this.more) rope.addRange(this.source, start, end);
    return rope;
  }
}

const none: readonly Range[] = [];
const nothing = new Uint8Array(0);

/** The fields of a kind that are length-delimited, as embedded messages, strings and bytes are. */
export function bytesFields(fields: readonly Field[], number: number): Field[] {
  return fields.filter((field) => field.number === number && field.wire === WIRE_BYTES);
}
