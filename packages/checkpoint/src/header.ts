import { findDuplicateKey } from './duplicate-key.ts';
import { CheckpointError } from './errors.ts';

export interface Entry {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  /** From the first byte after the header. */
  readonly begin: number;
  readonly byteLength: number;
}

const BITS: ReadonlyMap<string, number> = new Map([
  ['BOOL', 8],
  ['U8', 8],
  ['I8', 8],
  ['F8_E4M3', 8],
  ['F8_E5M2', 8],
  ['F8_E8M0', 8],
  ['U16', 16],
  ['I16', 16],
  ['F16', 16],
  ['BF16', 16],
  ['U32', 32],
  ['I32', 32],
  ['F32', 32],
  ['U64', 64],
  ['I64', 64],
  ['F64', 64],
  ['C64', 64],
]);

/**
 * Reads and checks a safetensors header.
 * @param header the bytes between the length and the data
 * @param fileBytes length of the whole file
 */
export function parseHeader(
  header: Uint8Array,
  fileBytes: number,
  path: string,
): { entries: ReadonlyMap<string, Entry>; metadata: ReadonlyMap<string, string>; dataStart: number } {
  const json = parseJson(header, path);
  const entries = new Map<string, Entry>();
  let metadata: ReadonlyMap<string, string> = new Map();
  for (const [name, value] of Object.entries(json)) {
    if (name === '__metadata__') metadata = parseMetadata(value, path);
    else entries.set(name, parseEntry(name, value, path));
  }
  checkLayout([...entries.values()], fileBytes - 8 - header.length, path);
  return { entries, metadata, dataStart: 8 + header.length };
}

function parseJson(header: Uint8Array, path: string): object {
  const fail = (what: string, cause?: unknown): never => {
    throw new CheckpointError('checkpoint/not-safetensors', `${path}: ${what}`, { where: path, cause });
  };
  if (header[0] !== 0x7b) fail('the header does not begin with {');
  let text: string;
  let json: unknown;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(header);
  } catch (cause) {
    return fail('the header is not UTF-8', cause);
  }
  try {
    json = JSON.parse(text);
  } catch (cause) {
    return fail('the header is not JSON', cause);
  }
  const twice = findDuplicateKey(text);
  if (twice !== undefined) {
    throw new CheckpointError('checkpoint/duplicate', `${path}: ${JSON.stringify(twice)} stands twice`, {
      where: path,
    });
  }
  return json as object; // begins with {, so an object
}

function parseMetadata(value: unknown, path: string): ReadonlyMap<string, string> {
  const pairs = isObject(value) ? Object.entries(value) : undefined;
  if (!pairs?.every((pair): pair is [string, string] => typeof pair[1] === 'string')) {
    throw new CheckpointError('checkpoint/tensor-info', `${path}: __metadata__ is not a map of strings`, {
      where: path,
    });
  }
  return new Map(pairs);
}

function parseEntry(name: string, value: unknown, path: string): Entry {
  const fail = (what: string): never => {
    throw new CheckpointError('checkpoint/tensor-info', `${path}: ${name} ${what}`, { where: path });
  };
  if (!isObject(value)) return fail('is not an object');
  const { dtype, shape, data_offsets: offsets } = value as { dtype?: unknown; shape?: unknown; data_offsets?: unknown };
  if (typeof dtype !== 'string') return fail('has no dtype');
  const bits = BITS.get(dtype);
  if (bits === undefined) {
    throw new CheckpointError('checkpoint/dtype', `${path}: ${name} has the unknown type ${dtype}`, { where: path });
  }
  if (!isCounts(shape)) return fail('has no shape of whole numbers');
  if (!isCounts(offsets) || offsets.length !== 2) return fail('has no two data_offsets');
  const [begin = 0, end = 0] = offsets;
  // BigInt: a product past 2⁵³ must not round to one that fits.
  const needed = shape.reduce((product, dim) => product * BigInt(dim), BigInt(bits / 8));
  if (needed !== BigInt(end) - BigInt(begin)) {
    return fail(`is ${dtype} [${shape.join(', ')}], ${needed} bytes, but lies at ${begin} to ${end}`);
  }
  return { name, dtype, shape, begin, byteLength: end - begin };
}

/** As the reference has it: in order of offset each tensor begins where the one before ended, and the last ends the file. */
function checkLayout(entries: readonly Entry[], dataBytes: number, path: string): void {
  const fail = (what: string): never => {
    throw new CheckpointError('checkpoint/offsets', `${path}: ${what}`, { where: path });
  };
  let end = 0;
  // An empty tensor shares its offset with the one after it.
  const sorted = entries.toSorted((a, b) => a.begin - b.begin || a.byteLength - b.byteLength);
  for (const entry of sorted) {
    if (entry.begin < end) fail(`${entry.name} overlaps the tensor before it by ${end - entry.begin} bytes`);
    if (entry.begin > end) fail(`${entry.begin - end} bytes before ${entry.name} belong to no tensor`);
    end = entry.begin + entry.byteLength;
  }
  if (end > dataBytes) fail(`tensors need ${end} bytes, the file has ${dataBytes}: cut off`);
  if (end < dataBytes) fail(`${dataBytes - end} bytes after the last tensor`);
}

function isCounts(value: unknown): value is readonly number[] {
  return Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0 && !Object.is(item, -0));
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
