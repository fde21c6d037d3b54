import { onnx } from '../generated/onnx.js';
import { bitsOf, codeOf, dataTypeOf, rawBytes } from './data-types.ts';
import { OnnxError } from './errors.ts';
import { type ExternalFolder, type ExternalRange, parseExternal } from './external.ts';
import { toBigInt, toLong } from './long.ts';
import { bytesFields, type Message } from './message.ts';
import { Rope } from './rope.ts';
import { type FileSlice, TensorInFile } from './scratch.ts';
import { countTyped, type TypedData, typedField, typedToRaw } from './tensor-data.ts';
import type { DataType, NewTensor, OpenBytes, Tensor } from './types.ts';
import type { Field } from './wire.ts';

const RAW_DATA = 9;
const STRING_DATA = 6;
const SEGMENT = 3;
const EXTERNAL_DATA = 13;
const DATA_LOCATION = 14;
const placeFields: ReadonlySet<number> = new Set([4, 5, 7, RAW_DATA, 10, 11, EXTERNAL_DATA, DATA_LOCATION]);
const headFields: ReadonlySet<number> = new Set([1, 2, 8, EXTERNAL_DATA, DATA_LOCATION]);

/** Where the elements are. */
type Place =
  | { readonly kind: 'raw'; readonly start: number; readonly end: number }
  | { readonly kind: 'typed'; readonly data: TypedData }
  | { readonly kind: 'strings'; readonly fields: readonly Field[] }
  | { readonly kind: 'external'; readonly range: ExternalRange };

/** A TensorProto in its file. Its head is checked when it is met, its data is not read before `bytes()`. */
export class StoredTensor implements Tensor {
  readonly name: string;
  readonly dtype: DataType;
  readonly dims: readonly number[];
  readonly byteLength: number;
  readonly message: Message;
  readonly #place: Place;

  constructor(message: Message, folder: ExternalFolder) {
    const fields = message.fields();
    const head = message.decode(onnx.TensorProto, fields, headFields);
    this.message = message;
    this.name = head.name;
    const dtype = dataTypeOf(head.dataType);
    if (dtype === undefined)
      throw this.#error('onnx/data-type', `has data type ${head.dataType}, which ONNX does not define`);
    if (fields.some((field) => field.number === SEGMENT))
      throw this.#error('onnx/segment', 'is stored in segments, which are not supported');
    this.dtype = dtype;
    this.dims = head.dims.map(toBigInt).map((dim) => this.#dim(dim));
    this.byteLength = rawBytes(
      dtype,
      countElements(this.dims, (what) => this.#error('onnx/dims', what)),
    );
    this.#place = this.#find(fields, head, folder);
  }

  get external(): ExternalRange | undefined {
    return this.#place.kind === 'external' ? this.#place.range : undefined;
  }

  bytes(): Uint8Array {
    switch (this.#place.kind) {
      case 'raw':
        return this.message.source.read(this.#place.start, this.#place.end);
      case 'external':
        return this.#place.range.read(0, this.byteLength);
      case 'typed':
        this.checkData();
        return typedToRaw(this.message.source, this.#place.data, this.dtype, this.byteLength);
      case 'strings':
        throw this.#error('onnx/data-type', 'holds strings, which have no raw form', 'read them with strings()');
    }
  }

  part(start: number, end: number): Uint8Array {
    switch (this.#place.kind) {
      case 'raw':
        return this.message.source.read(this.#place.start + start, this.#place.start + end);
      case 'external':
        return this.#place.range.read(start, end);
      case 'typed':
      case 'strings':
        return this.bytes().subarray(start, end);
    }
  }

  openFile(): OpenBytes | undefined {
    if (this.#place.kind === 'raw') return this.message.source.lend(this.#place.start);
    return this.external?.open();
  }

  strings(): string[] {
    if (this.#place.kind !== 'strings') throw this.#error('onnx/data-type', `holds ${this.dtype}, not strings`);
    const text = new TextDecoder();
    return this.#place.fields.map(({ value, end }) => text.decode(this.message.source.read(value, end)));
  }

  /**
   * That the data is there and of the right length: for varint fields it is counted, for external data its file is looked at.
   * @throws {OnnxError} `onnx/tensor-data`, `onnx/external-…`
   */
  checkData(): void {
    if (this.#place.kind === 'external') this.#place.range.check();
    if (this.#place.kind !== 'typed') return;
    const count = countTyped(this.message.source, this.#place.data);
    const wanted = this.#typedLength();
    if (count !== wanted)
      throw this.#error('onnx/tensor-data', `has ${count} values for [${this.dims.join(', ')}], which take ${wanted}`);
  }

  /** The message's content without what says where the data is. */
  headRope(): Rope {
    const rope = new Rope();
    for (const { number, start, end } of this.message.fields())
      if (!placeFields.has(number)) rope.addRange(this.message.source, start, end);
    return rope;
  }

  /** The elements in `raw_data` layout, to be copied when written. */
  dataRope(): Rope {
    if (this.#place.kind === 'external') return new Rope().addRange(this.#place.range, 0, this.byteLength);
    if (this.#place.kind === 'raw') return new Rope().addRange(this.message.source, this.#place.start, this.#place.end);
    return new Rope().add(this.bytes());
  }

  #dim(dim: bigint): number {
    if (dim < 0n) throw this.#error('onnx/dims', `has a dimension of ${dim}`);
    if (dim > BigInt(Number.MAX_SAFE_INTEGER)) throw this.#error('onnx/dims', `has a dimension of ${dim}, over 2^53`);
    return Number(dim);
  }

  #find(fields: readonly Field[], head: onnx.TensorProto, folder: ExternalFolder): Place {
    const raw = bytesFields(fields, RAW_DATA).at(-1);
    const typed = typedField(fields, this.dtype, (what) => this.#error('onnx/tensor-data', what));
    const strings = bytesFields(fields, STRING_DATA);
    const external = head.dataLocation === onnx.TensorProto.DataLocation.EXTERNAL;
    const places = [raw !== undefined, typed !== undefined, strings.length > 0, external].filter(Boolean).length;
    if (places > 1) throw this.#error('onnx/tensor-data', 'has its data in two places at once');
    if (external) return { kind: 'external', range: this.#external(head, folder) };
    if (this.dtype === 'string') return { kind: 'strings', fields: this.#strings(strings, raw) };
    if (strings.length > 0) throw this.#error('onnx/tensor-data', `holds ${this.dtype} but has string data`);
    if (raw === undefined) return { kind: 'typed', data: typed ?? this.#noData() };
    const { value: start, end } = raw;
    if (end - start !== this.byteLength)
      throw this.#error(
        'onnx/tensor-data',
        `has ${end - start} bytes for ${this.dtype} [${this.dims.join(', ')}], which take ${this.byteLength}`,
      );
    return { kind: 'raw', start, end };
  }

  #strings(fields: readonly Field[], raw: Field | undefined): readonly Field[] {
    if (raw !== undefined) throw this.#error('onnx/tensor-data', 'holds strings but has raw data');
    const count = countElements(this.dims, (what) => this.#error('onnx/dims', what));
    if (fields.length !== count)
      throw this.#error('onnx/tensor-data', `has ${fields.length} strings for [${this.dims.join(', ')}]`);
    return fields;
  }

  #noData(): TypedData {
    if (this.byteLength > 0) throw this.#error('onnx/tensor-data', 'has no data');
    return { number: RAW_DATA, fields: [] };
  }

  #external(head: onnx.TensorProto, folder: ExternalFolder): ExternalRange {
    if (this.dtype === 'string') throw this.#error('onnx/tensor-data', 'holds strings but lies in an external file');
    return parseExternal(folder, this.name, head.externalData, this.byteLength);
  }

  /** How many values the typed field must have. */
  #typedLength(): number {
    const bits = bitsOf(this.dtype);
    if (bits < 6) return this.byteLength;
    const elements = this.dims.reduce((product, dim) => product * dim, 1);
    return this.dtype.startsWith('complex') ? elements * 2 : elements;
  }

  #error(code: OnnxError['code'], what: string, hint?: string): OnnxError {
    return new OnnxError(code, `tensor "${this.name}" ${what}`, { where: this.name, hint });
  }
}

/** A constant made here. Its bytes are the caller's: shared, not copied, or left in the file that they were written to. */
export class MemoryTensor implements Tensor {
  readonly name: string;
  readonly dtype: DataType;
  readonly dims: readonly number[];
  readonly byteLength: number;
  readonly #data: Uint8Array | FileSlice;

  /** @throws {OnnxError} `onnx/dims`, `onnx/tensor-data` */
  constructor(name: string, tensor: NewTensor) {
    const { dtype, dims } = tensor;
    const data = tensor instanceof TensorInFile ? tensor.slice : tensor.bytes;
    const where = { where: name };
    const refuse = (what: string) => new OnnxError('onnx/dims', `tensor "${name}" ${what}`, where);
    for (const dim of dims) if (!Number.isSafeInteger(dim) || dim < 0) throw refuse(`has a dimension of ${dim}`);
    if (dtype === 'string') throw new OnnxError('onnx/data-type', `tensor "${name}" cannot be made of strings`, where);
    this.name = name;
    this.dtype = dtype;
    this.dims = dims;
    this.byteLength = rawBytes(dtype, countElements(dims, refuse));
    if (data.length !== this.byteLength)
      throw new OnnxError(
        'onnx/tensor-data',
        `tensor "${name}" has ${data.length} bytes for ${dtype} [${dims.join(', ')}], which take ${this.byteLength}`,
        where,
      );
    this.#data = data;
  }

  bytes(): Uint8Array {
    return this.part(0, this.byteLength);
  }

  part(start: number, end: number): Uint8Array {
    const data = this.#data;
    return data instanceof Uint8Array ? data.subarray(start, end) : data.read(start, end);
  }

  openFile(): undefined {}

  headRope(): Rope {
    const { name, dtype, dims } = this;
    return new Rope().add(onnx.TensorProto.encode({ dims: dims.map(toLong), dataType: codeOf(dtype), name }).finish());
  }

  dataRope(): Rope {
    const data = this.#data;
    return data instanceof Uint8Array ? new Rope().add(data) : new Rope().addRange(data, 0, data.length);
  }
}

/** @throws what `refuse` makes if the product is not a safe integer, in bits too */
function countElements(dims: readonly number[], refuse: (what: string) => Error): number {
  if (dims.includes(0)) return 0;
  const count = dims.reduce((product, dim) => product * dim, 1);
  // 128 bits is the widest element: beyond this the byte count would not be exact.
  if (count > Number.MAX_SAFE_INTEGER / 128) throw refuse(`has dims [${dims.join(', ')}], too many elements to count`);
  return count;
}
