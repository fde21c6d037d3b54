import { bitsOf } from './data-types.ts';
import type { Source } from './source.ts';
import type { DataType } from './types.ts';
import { type Field, WIRE_BYTES, WIRE_FIXED32, WIRE_FIXED64, WIRE_VARINT } from './wire.ts';

const FLOAT_DATA = 4;
const INT32_DATA = 5;
const INT64_DATA = 7;
const DOUBLE_DATA = 10;
const UINT64_DATA = 11;

/** A typed data field, packed or not: protobuf allows both, and a mixture. */
export interface TypedData {
  readonly number: number;
  readonly fields: readonly Field[];
}

/** The typed data field, if one has anything in it. @throws what `refuse` makes if it is not the one that the type wants, or there are two */
export function typedField(
  fields: readonly Field[],
  dtype: DataType,
  refuse: (what: string) => Error,
): TypedData | undefined {
  if (!fields.some(({ number }) => wires.has(number))) return undefined;
  let found: TypedData | undefined;
  for (const [number, wire] of wires) {
    const data = fields.filter(
      (field) =>
        field.number === number && (field.wire === wire || field.wire === WIRE_BYTES) && field.end > field.value,
    );
    if (data.length === 0) continue;
    if (found !== undefined) throw refuse('has its data in two places at once');
    if (number !== fieldOf(dtype)) throw refuse(`holds ${dtype} but has its data in field ${number}`);
    found = { number, fields: data };
  }
  return found;
}

const wires: ReadonlyMap<number, number> = new Map([
  [FLOAT_DATA, WIRE_FIXED32],
  [INT32_DATA, WIRE_VARINT],
  [INT64_DATA, WIRE_VARINT],
  [DOUBLE_DATA, WIRE_FIXED64],
  [UINT64_DATA, WIRE_VARINT],
]);

/** @see onnx.proto, the comments at float_data … uint64_data */
function fieldOf(dtype: DataType): number {
  switch (dtype) {
    case 'float32':
    case 'complex64':
      return FLOAT_DATA;
    case 'float64':
    case 'complex128':
      return DOUBLE_DATA;
    case 'int64':
      return INT64_DATA;
    case 'uint32':
    case 'uint64':
      return UINT64_DATA;
    default:
      return INT32_DATA;
  }
}

/** How many values it has. Varints are counted by their last bytes. */
export function countTyped(source: Source, { number, fields }: TypedData): number {
  const wire = wires.get(number);
  let count = 0;
  for (const { wire: own, value, end } of fields) {
    if (own !== WIRE_BYTES) count++;
    else if (wire === WIRE_FIXED32) count += (end - value) / 4;
    else if (wire === WIRE_FIXED64) count += (end - value) / 8;
    else for (const byte of source.read(value, end)) if (byte < 128) count++;
  }
  return count;
}

/** The elements in `raw_data` layout. The count must have been checked. */
export function typedToRaw(source: Source, data: TypedData, dtype: DataType, byteLength: number): Uint8Array {
  const wire = wires.get(data.number);
  const raw = new Uint8Array(byteLength);
  if (wire === WIRE_VARINT) {
    copyVarints(source, data.fields, raw, elementBytes(dtype));
    return raw;
  }
  let at = 0;
  for (const { value, end } of data.fields) {
    raw.set(source.read(value, end), at);
    at += end - value;
  }
  return raw;
}

/** What one value of the varint field fills: a packed byte for types under 6 bits. 6-bit values are handled as such. */
function elementBytes(dtype: DataType): number {
  const bits = bitsOf(dtype);
  return bits === 6 ? 0.75 : Math.max(1, bits / 8);
}

function copyVarints(source: Source, fields: readonly Field[], raw: Uint8Array, width: number): void {
  let index = 0;
  for (const { value, end } of fields) {
    const bytes = source.read(value, end);
    for (let at = 0; at < bytes.length; index++) {
      let low = 0;
      let high = 0;
      for (let shift = 0; at < bytes.length; shift += 7) {
        const byte = bytes[at++] ?? 0;
        if (shift < 32) low |= (byte & 127) << shift;
        if (shift === 28) high |= (byte & 127) >> 4;
        else if (shift > 28 && shift < 64) high |= (byte & 127) << (shift - 32);
        if (byte < 128) break;
      }
      if (width < 1) putSixBits(raw, index, low & 63);
      else
        for (let i = 0; i < width; i++)
          raw[index * width + i] = (i < 4 ? low >>> (8 * i) : high >>> (8 * i - 32)) & 255;
    }
  }
}

/** A contiguous bit stream, least significant bit first. */
function putSixBits(raw: Uint8Array, index: number, bits: number): void {
  const at = Math.floor((index * 6) / 8);
  const shift = (index * 6) % 8;
  raw[at] = (raw[at] ?? 0) | ((bits << shift) & 255);
  if (shift > 2) raw[at + 1] = (raw[at + 1] ?? 0) | (bits >> (8 - shift));
}
