import { isRecord } from './canonical-json.ts';
import { PackError } from './errors.ts';

/** A tensor; row-major. The same shape as the runtime's, which may be passed in and gets these back. */
export type GoldenTensor =
  | { readonly dtype: 'float32'; readonly dims: readonly number[]; readonly data: Float32Array }
  | { readonly dtype: 'float64'; readonly dims: readonly number[]; readonly data: Float64Array }
  | { readonly dtype: 'float16' | 'uint16'; readonly dims: readonly number[]; readonly data: Uint16Array }
  | { readonly dtype: 'int8'; readonly dims: readonly number[]; readonly data: Int8Array }
  | { readonly dtype: 'uint8' | 'bool'; readonly dims: readonly number[]; readonly data: Uint8Array }
  | { readonly dtype: 'int16'; readonly dims: readonly number[]; readonly data: Int16Array }
  | { readonly dtype: 'int32'; readonly dims: readonly number[]; readonly data: Int32Array }
  | { readonly dtype: 'uint32'; readonly dims: readonly number[]; readonly data: Uint32Array }
  | { readonly dtype: 'int64'; readonly dims: readonly number[]; readonly data: BigInt64Array }
  | { readonly dtype: 'uint64'; readonly dims: readonly number[]; readonly data: BigUint64Array }
  | { readonly dtype: 'string'; readonly dims: readonly number[]; readonly data: readonly string[] };

export type GoldenTensors = { readonly [name: string]: GoldenTensor };

/** What a model must answer. For text: inputs are the prompt's token ids, outputs logits and the greedy answer's ids. */
export interface GoldenCase {
  readonly name: string;
  readonly inputs: GoldenTensors;
  readonly outputs: GoldenTensors;
}

/**
 * Golden vectors as one safetensors file, so that any tool can look at them. Tensors are named `case/<i>/in/<name>` and
 * `case/<i>/out/<name>`; the cases' own names are metadata. Wider types come first, so that all lie aligned.
 * @throws {PackError} `pack/golden` for text tensors, or data that does not fill its dims
 * @see github.com/huggingface/safetensors, "Format"
 */
export function writeGolden(cases: readonly GoldenCase[]): Uint8Array {
  const parts = cases.flatMap(({ inputs, outputs }, index) => [
    ...Object.entries(inputs).map(([name, tensor]) => part(`case/${index}/in/${name}`, tensor)),
    ...Object.entries(outputs).map(([name, tensor]) => part(`case/${index}/out/${name}`, tensor)),
  ]);
  parts.sort((a, b) => b.width - a.width || (a.name < b.name ? -1 : 1));
  const names = cases.map(({ name }, index) => [`case/${index}`, name] as const);
  const header: [string, unknown][] = [['__metadata__', Object.fromEntries(names)]];
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
 * Reads what {@link writeGolden} wrote, and nothing looser: one spelling of the header, tensors that follow each other
 * without gap or overlap and fill the file, cases numbered from 0.
 * @throws {PackError} `pack/golden`, naming the tensor
 */
export function readGolden(bytes: Uint8Array): readonly GoldenCase[] {
  const { header, data } = split(bytes);
  const names = Object.entries(record(header['__metadata__'], '__metadata__')).map(([key, name], index) => {
    if (key !== `case/${index}` || typeof name !== 'string') throw bad(`case ${index} has no name`);
    return name;
  });
  const cases = names.map((name) => ({
    name,
    inputs: Object.create(null) as Record<string, GoldenTensor>,
    outputs: Object.create(null) as Record<string, GoldenTensor>,
  }));
  let end = 0;
  for (const [key, value] of Object.entries(header)) {
    if (key === '__metadata__') continue;
    const [, index, side, name] = /^case\/(0|[1-9]\d{0,5})\/(in|out)\/(.+)$/s.exec(key) ?? [];
    const found = cases[Number(index)];
    if (found === undefined || name === undefined) throw bad(`no case owns ${JSON.stringify(key.slice(0, 120))}`);
    const tensor = decode(key, record(value, key), data, end);
    end += tensor.data.byteLength;
    (side === 'in' ? found.inputs : found.outputs)[name] = tensor;
  }
  if (end !== data.length) throw bad(`${data.length - end} bytes after the last tensor`);
  return cases;
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

function part(name: string, tensor: GoldenTensor): Part {
  if (tensor.dtype === 'string') throw bad(`${name}: text tensors cannot be golden`);
  const { code, array } = codes[tensor.dtype];
  const { data, dims } = tensor;
  if (!(data instanceof array) || data.length !== elements(dims, name))
    throw bad(`${name}: ${data.length} elements do not fill [${dims.join(', ')}] of ${tensor.dtype}`);
  return {
    name,
    code,
    width: array.BYTES_PER_ELEMENT,
    dims,
    bytes: new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
  };
}

function split(bytes: Uint8Array): { readonly header: { readonly [key: string]: unknown }; readonly data: Uint8Array } {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = buffer.length < 8 ? 0n : buffer.readBigUInt64LE();
  if (length < 2n || length > BigInt(buffer.length - 8) || length % 8n !== 0n) throw bad(`a header of ${length} bytes`);
  const end = 8 + Number(length);
  let text: string;
  let header: unknown;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes.subarray(8, end)).replace(/ *$/, '');
    header = JSON.parse(text);
  } catch (cause) {
    throw new PackError('pack/golden', 'golden vectors: the header is not JSON in UTF-8', { cause });
  }
  // `JSON.parse` keeps the last of two members of one name; spelling the value again shows what it dropped.
  if (!isRecord(header) || JSON.stringify(header) !== text)
    throw bad('the header is not in the one spelling, or has a name twice');
  return { header, data: bytes.subarray(end) };
}

function decode(name: string, value: { readonly [key: string]: unknown }, data: Uint8Array, start: number): Numeric {
  const { dtype: code, shape, data_offsets: range } = value;
  const dtype = dtypeNames.find((key) => codes[key].code === code);
  if (dtype === undefined) throw bad(`${name}: dtype ${JSON.stringify(code)}`);
  const dims = dimsOf(shape, name);
  const { array } = codes[dtype];
  const end = start + elements(dims, name) * array.BYTES_PER_ELEMENT;
  if (!Array.isArray(range) || range.length !== 2 || range[0] !== start || range[1] !== end || end > data.length)
    throw bad(`${name}: bytes ${JSON.stringify(range)}, [${start},${end}] expected`);
  const copy = data.slice(start, end); // aligned, and free of the file's buffer
  // The table pairs each dtype with its array type, which the union cannot see.
  return { dtype, dims, data: new array(copy.buffer, 0, copy.byteLength / array.BYTES_PER_ELEMENT) } as Numeric;
}

const dtypeNames = Object.keys(codes) as (keyof typeof codes)[];

function dimsOf(shape: unknown, name: string): readonly number[] {
  if (!Array.isArray(shape) || shape.length > 64) throw bad(`${name}: no shape`);
  return shape.map((dim: unknown) => {
    if (typeof dim !== 'number') throw bad(`${name}: no shape`);
    return dim;
  });
}

function elements(dims: readonly number[], name: string): number {
  const count = dims.reduce((product, dim) => product * dim, 1);
  if (!Number.isSafeInteger(count) || dims.some((dim) => !Number.isSafeInteger(dim) || dim < 0))
    throw bad(`${name}: shape [${dims.join(', ').slice(0, 120)}]`);
  return count;
}

function record(value: unknown, where: string): { readonly [key: string]: unknown } {
  if (!isRecord(value)) throw bad(`${where} is not an object`);
  return value;
}

function bad(problem: string): PackError {
  return new PackError('pack/golden', `golden vectors: ${problem}`);
}
