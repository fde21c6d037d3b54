import { ProtocolError } from './errors.ts';
import { bad, type Field } from './fields.ts';

/** One message type: plain readonly data on this side, protobuf on the wire. */
export interface Codec<T> {
  /** @throws {ProtocolError} `protocol/value` naming the field, `protocol/too-large` */
  encode(message: T): Uint8Array;
  /** Unknown fields are ignored. @throws {ProtocolError} `protocol/decode`, `protocol/value`, `protocol/too-large` */
  decode(bytes: Uint8Array): T;
  /** Longest payload, in bytes. */
  readonly maxBytes: number;
}

/** The part of a generated message class that is used. */
export interface WireType {
  encode(message: object): { finish(): Uint8Array };
  decode(bytes: Uint8Array): object;
}
export type Shape<T> = { readonly [K in keyof T]-?: Field<T[K]> };

/** Joins a generated class with the checks of its fields. `check` sees a whole message, both ways. */
export function codec<T extends object>(
  title: string,
  wire: WireType,
  shape: Shape<T>,
  maxBytes: number,
  check: (message: T) => void = () => undefined,
): Codec<T> {
  const fields = message<T>(shape, title);
  const tooLarge = (size: number): ProtocolError =>
    new ProtocolError('protocol/too-large', `${title} of ${size} bytes; the limit is ${maxBytes}`, { where: title });
  return {
    maxBytes,
    encode(value) {
      check(value);
      const bytes = wire.encode(fields.write(value, title) as object).finish();
      if (bytes.length > maxBytes) throw tooLarge(bytes.length);
      return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length); // protobufjs gives a Buffer on Node
    },
    decode(bytes) {
      if (bytes.length > maxBytes) throw tooLarge(bytes.length);
      const value = fields.read(decodeWith(wire, bytes, title), title);
      check(value);
      return value;
    },
  };
}

/** A message as a field of another one. */
export function message<T extends object>(shape: Shape<T>, title: string): Field<T> {
  const entries = Object.entries(shape) as [string, Field<unknown>][];
  const each = (way: 'read' | 'write', value: unknown): object => {
    if (typeof value !== 'object' || value === null) throw bad(title, 'is missing');
    const source = value as { readonly [key: string]: unknown };
    // Keys come from the shape, never from the wire, so that no message can name a prototype's member.
    return Object.fromEntries(entries.map(([key, field]) => [key, field[way](source[key], `${title}.${key}`)]));
  };
  return { read: (value) => each('read', value) as T, write: (value) => each('write', value) };
}

function decodeWith(wire: WireType, bytes: Uint8Array, title: string): object {
  try {
    return wire.decode(bytes);
  } catch (cause) {
    throw new ProtocolError(
      'protocol/decode',
      `not a ${title}: ${cause instanceof Error ? cause.message : 'unreadable'}`,
      {
        where: title,
        cause,
      },
    );
  }
}
