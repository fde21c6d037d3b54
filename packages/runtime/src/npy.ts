import { RuntimeError } from './errors.ts';
import { bytesPerElement, elements, makeTensor, type NumericDtype } from './tensors.ts';
import type { TensorValue } from './types.ts';

const DTYPES: ReadonlyMap<string, NumericDtype> = new Map([
  ['f4', 'float32'],
  ['f8', 'float64'],
  ['f2', 'float16'],
  ['i1', 'int8'],
  ['i2', 'int16'],
  ['i4', 'int32'],
  ['i8', 'int64'],
  ['u1', 'uint8'],
  ['u2', 'uint16'],
  ['u4', 'uint32'],
  ['u8', 'uint64'],
  ['b1', 'bool'],
]);

/** The only header that is read: the dictionary NumPy writes, keys in any order. */
const KEY = /'(descr|fortran_order|shape)'\s*:\s*('[^']*'|True|False|\([^)]*\))\s*,?\s*/gy;

/**
 * Reads one NumPy array (format 1.0 to 3.0): numbers, booleans and unicode strings, either byte order, C or Fortran
 * order (made C). Never pickles.
 * @throws {RuntimeError} `runtime/npz`
 */
export function readNpy(file: Uint8Array): TensorValue {
  const { text, dataOffset } = header(file);
  const fields = parseHeader(text);
  const kind = /^'([<>|=])([a-zA-Z])(\d+)'$/.exec(fields.get('descr') ?? '');
  if (!kind) throw bad(`descr ${fields.get('descr')?.slice(0, 40)} is not a plain type`);
  const [, order, letter = '', size = ''] = kind;
  const dims = parseShape(fields.get('shape') ?? '');
  const data = file.subarray(dataOffset);
  const tensor =
    letter === 'U'
      ? readStrings(data, dims, Number(size), order === '>')
      : readNumbers(data, dims, letter + size, order === '>');
  return fields.get('fortran_order') === 'True' ? toRowMajor(tensor) : tensor;
}

function header(file: Uint8Array): { text: string; dataOffset: number } {
  const magic = Buffer.from(file.subarray(0, 6)).toString('latin1');
  if (magic !== '\x93NUMPY' || file.length < 12) throw bad('not a .npy file');
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const long = (file[6] ?? 0) >= 2;
  const start = long ? 12 : 10;
  const length = long ? view.getUint32(8, true) : view.getUint16(8, true);
  if (length > 65_536 || start + length > file.length) throw bad(`a header of ${length} bytes`);
  return {
    text: Buffer.from(file.subarray(start, start + length))
      .toString('latin1')
      .trim(),
    dataOffset: start + length,
  };
}

function parseHeader(text: string): Map<string, string> {
  const fields = new Map<string, string>();
  const body = text.replace(/^\{\s*/, '').replace(/\}$/, '');
  KEY.lastIndex = 0;
  while (KEY.lastIndex < body.length) {
    const found = KEY.exec(body);
    if (!found?.[1] || found[2] === undefined || fields.has(found[1]))
      throw bad(`header ${JSON.stringify(text.slice(0, 80))}`);
    fields.set(found[1], found[2]);
  }
  if (fields.size !== 3) throw bad(`header ${JSON.stringify(text.slice(0, 80))}`);
  return fields;
}

function parseShape(text: string): number[] {
  const inner = text.slice(1, -1).replace(/,\s*$/, '').trim();
  if (inner === '') return [];
  const dims = inner.split(',').map((dim) => (/^\s*\d{1,15}\s*$/.test(dim) ? Number(dim) : Number.NaN));
  if (!Number.isSafeInteger(elements(dims)) || dims.length > 32) throw bad(`shape ${text.slice(0, 80)}`);
  return dims;
}

function readNumbers(data: Uint8Array, dims: readonly number[], type: string, bigEndian: boolean): TensorValue {
  const dtype = DTYPES.get(type);
  if (!dtype) throw bad(`type ${type} is not one that a tensor has`);
  const size = bytesPerElement(dtype);
  if (data.length !== elements(dims) * size)
    throw bad(`${data.length} bytes for ${dtype} of shape [${dims.join(', ')}]`);
  if (!bigEndian || size === 1) return makeTensor(dtype, dims, data);
  const swapped = Buffer.from(data);
  if (size === 2) swapped.swap16();
  else if (size === 4) swapped.swap32();
  else swapped.swap64();
  return makeTensor(dtype, dims, swapped);
}

/** UTF-32 of fixed length, padded with NUL. */
function readStrings(data: Uint8Array, dims: readonly number[], length: number, bigEndian: boolean): TensorValue {
  const count = elements(dims);
  if (data.length !== count * length * 4) throw bad(`${data.length} bytes for ${count} strings of ${length}`);
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const strings: string[] = [];
  for (let i = 0; i < count; i++) {
    let text = '';
    for (let j = 0; j < length; j++) {
      const point = view.getUint32((i * length + j) * 4, !bigEndian);
      if (point > 0x10ffff) throw bad(`string ${i} holds the code point ${point}`);
      text += String.fromCodePoint(point);
    }
    strings.push(text.replace(/\0+$/, ''));
  }
  return { dtype: 'string', dims, data: strings };
}

function toRowMajor(tensor: TensorValue): TensorValue {
  const { dims } = tensor;
  const from = tensor.data as readonly unknown[];
  const to = (tensor.dtype === 'string' ? [...tensor.data] : tensor.data.slice()) as unknown[];
  const index = dims.map(() => 0);
  for (let i = 0; i < to.length; i++) {
    let source = 0;
    for (let axis = dims.length - 1; axis >= 0; axis--) source = source * (dims[axis] ?? 0) + (index[axis] ?? 0);
    to[i] = from[source];
    for (let axis = dims.length - 1; axis >= 0; axis--) {
      index[axis] = ((index[axis] ?? 0) + 1) % (dims[axis] ?? 1);
      if (index[axis] !== 0) break;
    }
  }
  return { ...tensor, data: to } as unknown as TensorValue;
}

/** NumPy format 1.0, C order, little-endian. Strings are not written. @throws {RuntimeError} `runtime/npz` */
export function writeNpy(tensor: TensorValue): Uint8Array {
  const type = [...DTYPES].find(([, dtype]) => dtype === tensor.dtype)?.[0];
  if (type === undefined || tensor.dtype === 'string') throw bad(`${tensor.dtype} cannot be written`);
  const { data, dims } = tensor;
  const order = bytesPerElement(tensor.dtype) === 1 ? '|' : '<';
  const shape = dims.length === 1 ? `${dims[0]},` : dims.join(', ');
  const text = `{'descr': '${order}${type}', 'fortran_order': False, 'shape': (${shape}), }`;
  const length = Math.ceil((10 + text.length + 1) / 64) * 64 - 10; // data starts at a multiple of 64
  const head = Buffer.alloc(10 + length, ' ');
  head.write('\x93NUMPY\x01\x00', 'latin1');
  head.writeUInt16LE(length, 8);
  head.write(text, 10, 'latin1');
  head[head.length - 1] = 0x0a;
  return Buffer.concat([head, new Uint8Array(data.buffer, data.byteOffset, data.byteLength)]);
}

function bad(problem: string): RuntimeError {
  return new RuntimeError('runtime/npz', problem);
}
