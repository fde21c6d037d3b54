import { ProtocolError } from './errors.ts';
import { isName } from './topics.ts';

/** How one field travels: `read` checks what came in, `write` what goes out. Both throw `protocol/value`. */
export interface Field<T> {
  readonly read: (value: unknown, where: string) => T;
  readonly write: (value: T, where: string) => unknown;
}

/**
 * uint64 as a number: everything this protocol counts (sessions, counters, bytes, milliseconds) stays below 2^53,
 * and a plain number spares both sides bigint arithmetic. A larger one is refused, never rounded.
 */
export const uint64: Field<number> = { read: (value, where) => count(toNumber(value), where), write: count };
export const uint32: Field<number> = { read: (value, where) => count(value, where), write: within(0xffff_ffff) };
export const bool: Field<boolean> = { read: (value) => value === true, write: (value) => value };
export const double: Field<number> = { read: measure, write: measure };

/** UTF-8 text of at most `max` UTF-16 units. */
export function text(max: number): Field<string> {
  const check = (value: unknown, where: string): string => {
    if (typeof value === 'string' && value.length <= max) return value;
    throw bad(where, `is not a text of at most ${max} characters`);
  };
  return { read: check, write: check };
}

/** Bytes of at most `max`. Read as a view on the message. */
export function bytes(max: number): Field<Uint8Array> {
  const check = (value: unknown, where: string): Uint8Array => {
    if (value instanceof Uint8Array && value.length <= max) return value;
    if (Array.isArray(value) && value.length === 0) return new Uint8Array(0); // protobufjs' default for an absent field
    throw bad(where, `is not at most ${max} bytes`);
  };
  return { read: check, write: check };
}

export const name: Field<string> = pattern(isName, 'is not a valid name');
/** `sha256:` and 64 lower-case hex digits. */
export const digest: Field<string> = pattern((value) => digestPattern.test(value), 'is not a sha256 digest');
/** The same, or empty for "none". */
export const digestOrNone: Field<string> = pattern(
  (value) => value === '' || digestPattern.test(value),
  'is not a sha256 digest',
);

/** A closed list; its members' numbers are 1, 2, … in order. */
export function oneOf<const T extends string>(members: readonly T[]): Field<T> {
  return {
    read(value, where) {
      const member = typeof value === 'number' ? members[value - 1] : undefined;
      if (member === undefined) throw bad(where, `has the unknown value ${String(value)}`);
      return member;
    },
    write(value, where) {
      const index = members.indexOf(value);
      if (index < 0) throw bad(where, `has the unknown value ${value}`);
      return index + 1;
    },
  };
}

/** At most `max` of them. */
export function list<T>(field: Field<T>, max: number): Field<readonly T[]> {
  const each = (way: 'read' | 'write', value: unknown, where: string): unknown[] => {
    if (!Array.isArray(value) || value.length > max) throw bad(where, `is not a list of at most ${max}`);
    return value.map((one: T, index) => field[way](one, `${where}[${index}]`));
  };
  return {
    read: (value, where) => each('read', value ?? [], where) as T[],
    write: (value, where) => each('write', value, where),
  };
}

/** A field that may be absent: 0, an empty text, or nothing on the wire. Not for 64 bits, whose 0 is an object. */
export function optional<T>(field: Field<T>): Field<T | undefined> {
  return {
    read: (value, where) =>
      value === undefined || value === null || value === 0 || value === '' ? undefined : field.read(value, where),
    write: (value, where) => (value === undefined ? undefined : field.write(value, where)),
  };
}

export const bad = (where: string, what: string): ProtocolError =>
  new ProtocolError('protocol/value', `${where} ${what}`, { where });

const digestPattern = /^sha256:[0-9a-f]{64}$/;

function pattern(test: (value: string) => boolean, what: string): Field<string> {
  const check = (value: unknown, where: string): string => {
    if (typeof value === 'string' && test(value)) return value;
    throw bad(where, what);
  };
  return { read: check, write: check };
}

function toNumber(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  const { low, high } = value as { low: number; high: number }; // a Long
  return (high >>> 0) * 2 ** 32 + (low >>> 0); // beyond 2^53 inexact, and refused for it
}

function count(value: unknown, where: string): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
  throw bad(where, `is not a whole number from 0 to 2^53 − 1`);
}

function within(max: number): (value: number, where: string) => number {
  return (value, where) => {
    if (count(value, where) <= max) return value;
    throw bad(where, `is above ${max}`);
  };
}

function measure(value: unknown, where: string): number {
  if (typeof value === 'number' && Number.isFinite(value) && value >= 0) return value;
  throw bad(where, 'is not a finite number of 0 or more');
}
