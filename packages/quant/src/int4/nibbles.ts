import { QuantError } from '../errors.ts';

/**
 * Two 4-bit values to a byte, the first in the low nibble, as ONNX stores int4 and uint4 (bitsandbytes does the reverse).
 * Signed values are stored in two's complement; an odd count leaves the last high nibble 0.
 * @param values each −8…15; only the low four bits are kept
 * @returns `ceil(values.length / 2)` bytes
 */
export function packNibbles(values: Uint8Array | Int8Array): Uint8Array {
  const packed = new Uint8Array((values.length + 1) >> 1);
  const pairs = values.length >> 1;
  for (let i = 0; i < pairs; i++) packed[i] = (values[2 * i] & 15) | ((values[2 * i + 1] & 15) << 4);
  if (values.length % 2 === 1) packed[pairs] = values[2 * pairs] & 15;
  return packed;
}

/**
 * The inverse of `packNibbles` for uint4.
 * @param packed at least `ceil(count / 2)` bytes; `count` defaults to all of them
 * @throws {QuantError} `quant/shape` if there are fewer bytes
 */
export function unpackNibbles(packed: Uint8Array, count: number = packed.length * 2): Uint8Array {
  if (packed.length < (count + 1) >> 1)
    throw new QuantError('quant/shape', `${count} nibbles in ${packed.length} bytes`);
  const values = new Uint8Array(count);
  const pairs = count >> 1;
  for (let i = 0; i < pairs; i++) {
    values[2 * i] = packed[i] & 15;
    values[2 * i + 1] = packed[i] >> 4;
  }
  if (count % 2 === 1) values[count - 1] = packed[pairs] & 15;
  return values;
}

/**
 * The inverse of `packNibbles` for int4: values −8…7.
 * @throws {QuantError} `quant/shape` if there are fewer bytes than `count` needs
 */
export function unpackSignedNibbles(packed: Uint8Array, count: number = packed.length * 2): Int8Array {
  const values = new Int8Array(unpackNibbles(packed, count));
  for (let i = 0; i < count; i++) values[i] = (values[i] << 28) >> 28;
  return values;
}
