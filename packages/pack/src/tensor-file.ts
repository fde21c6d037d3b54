import { isRecord } from './canonical-json.ts';
import type { PackError } from './errors.ts';
import type { GoldenTensor } from './golden.ts';

/** Text and tensors by name, as one safetensors file has them. */
export interface TensorFile {
  readonly metadata: readonly (readonly [key: string, text: string])[];
  readonly tensors: readonly (readonly [name: string, tensor: GoldenTensor])[];
}

/** Makes the error of whatever the file is for. */
export type Fail = (problem: string, options?: ErrorOptions) => PackError;

/**
 * One spelling for the same content: wider types first, so that all lie aligned, then by name.
 * @throws what `fail` makes, for text tensors or data that does not fill its dims
 * @see github.com/huggingface/safetensors, "Format"
 */
export function encodeTensors({ metadata, tensors }: TensorFile, fail: Fail): Uint8Array {
  const parts = tensors.map(([name, tensor]) => part(name, tensor, fail));
  parts.sort((a, b) => b.width - a.width || (a.name < b.name ? -1 : 1));
  const header: [string, unknown][] = [['__metadata__', Object.fromEntries(metadata)]];
  let end = 0;
  for (const { name, code, dims, bytes } of parts) {
    header.push([name, { dtype: code, shape: dims, data_offsets: [end, end + bytes.length] }]);
    end += bytes.length;
  }
  // Each pair by hand: an object would put names like "7" first and lose `__proto__`.
  const json = `{${header.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`).join(',')}}`;
  const text = Buffer.from(json.padEnd(json.length + ((8 - (Buffer.byteLength(json) % 8)) % 8)));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return new Uint8Array(Buffer.concat([length, text, ...parts.map(({ bytes }) => bytes)]));
}

/**
 * Reads what {@link encodeTensors} wrote, and nothing looser: one spelling of the header, tensors that follow each other
 * without gap or overlap and fill the file.
 * @throws what `fail` makes, naming the tensor
 */
export function decodeTensors(bytes: Uint8Array, fail: Fail): TensorFile {
  const { header, data } = split(bytes, fail);
  const metadata = Object.entries(record(header['__metadata__'], '__metadata__', fail)).map(([key, text]) => {
    if (typeof text !== 'string') throw fail(`${key.slice(0, 120)} is not text`);
    return [key, text] as const;
  });
  const tensors: (readonly [string, GoldenTensor])[] = [];
  let end = 0;
  for (const [key, value] of Object.entries(header)) {
    if (key === '__metadata__') continue;
    const tensor = decode(key, record(value, key.slice(0, 120), fail), { data, start: end }, fail);
    end += tensor.data.byteLength;
    tensors.push([key, tensor]);
  }
  if (end !== data.length) throw fail(`${data.length - end} bytes after the last tensor`);
  return { metadata, tensors };
}

type Numeric = Exclude<GoldenTensor, { dtype: 'string' }>;

interface Part {
  readonly name: string;
  readonly code: string;
  readonly width: number;
  readonly dims: readonly number[];
  readonly bytes: Uint8Array;
}

/** Safetensors' name, bytes per element, and how to make the array, by dtype. */
const codes = {
  float64: { code: 'F64', array: Float64Array },
  float32: { code: 'F32', array: Float32Array },
  float16: { code: 'F16', array: Uint16Array },
  int64: { code: 'I64', array: BigInt64Array },
  uint64: { code: 'U64', array: BigUint64Array },
  int32: { code: 'I32', array: Int32Array },
  uint32: { code: 'U32', array: Uint32Array },
  int16: { code: 'I16', array: Int16Array },
  uint16: { code: 'U16', array: Uint16Array },
  int8: { code: 'I8', array: Int8Array },
  uint8: { code: 'U8', array: Uint8Array },
  bool: { code: 'BOOL', array: Uint8Array },
} as const;

function part(name: string, tensor: GoldenTensor, fail: Fail): Part {
  if (tensor.dtype === 'string') throw fail(`${name}: text tensors have no place here`);
  const { code, array } = codes[tensor.dtype];
  const { data, dims } = tensor;
  if (!(data instanceof array) || data.length !== elements(dims, name, fail))
    throw fail(`${name}: ${data.length} elements do not fill [${dims.join(', ')}] of ${tensor.dtype}`);
  return {
    name,
    code,
    width: array.BYTES_PER_ELEMENT,
    dims,
    bytes: new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
  };
}

function split(
  bytes: Uint8Array,
  fail: Fail,
): { readonly header: { readonly [key: string]: unknown }; readonly data: Uint8Array } {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = buffer.length < 8 ? 0n : buffer.readBigUInt64LE();
  if (length < 2n || length > BigInt(buffer.length - 8) || length % 8n !== 0n)
    throw fail(`a header of ${length} bytes`);
  const end = 8 + Number(length);
  let text: string;
  let header: unknown;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes.subarray(8, end)).replace(/ *$/, '');
    header = JSON.parse(text);
  } catch (cause) {
    throw fail('the header is not JSON in UTF-8', { cause });
  }
  // `JSON.parse` keeps the last of two members of one name; spelling the value again shows what it dropped.
  if (!isRecord(header) || JSON.stringify(header) !== text)
    throw fail('the header is not in the one spelling, or has a name twice');
  return { header, data: bytes.subarray(end) };
}

function decode(
  name: string,
  value: { readonly [key: string]: unknown },
  { data, start }: { readonly data: Uint8Array; readonly start: number },
  fail: Fail,
): Numeric {
  const { dtype: code, shape, data_offsets: range } = value;
  const dtype = dtypeNames.find((key) => codes[key].code === code);
  if (dtype === undefined) throw fail(`${name}: dtype ${JSON.stringify(code)}`);
  const dims = dimsOf(shape, name, fail);
  const { array } = codes[dtype];
  const end = start + elements(dims, name, fail) * array.BYTES_PER_ELEMENT;
  if (!Array.isArray(range) || range.length !== 2 || range[0] !== start || range[1] !== end || end > data.length)
    throw fail(`${name}: bytes ${JSON.stringify(range)}, [${start},${end}] expected`);
  const copy = data.slice(start, end); // aligned, and free of the file's buffer
  // The table pairs each dtype with its array type, which the union cannot see.
  return { dtype, dims, data: new array(copy.buffer, 0, copy.byteLength / array.BYTES_PER_ELEMENT) } as Numeric;
}

const dtypeNames = Object.keys(codes) as (keyof typeof codes)[];

function dimsOf(shape: unknown, name: string, fail: Fail): readonly number[] {
  if (!Array.isArray(shape) || shape.length > 64) throw fail(`${name}: no shape`);
  return shape.map((dim: unknown) => {
    if (typeof dim !== 'number') throw fail(`${name}: no shape`);
    return dim;
  });
}

function elements(dims: readonly number[], name: string, fail: Fail): number {
  const count = dims.reduce((product, dim) => product * dim, 1);
  if (!Number.isSafeInteger(count) || dims.some((dim) => !Number.isSafeInteger(dim) || dim < 0))
    throw fail(`${name}: shape [${dims.join(', ').slice(0, 120)}]`);
  return count;
}

function record(value: unknown, where: string, fail: Fail): { readonly [key: string]: unknown } {
  if (!isRecord(value)) throw fail(`${where} is not an object`);
  return value;
}
