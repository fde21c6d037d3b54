import { closeSync, openSync, writeSync } from 'node:fs';
import { fileError, readFully } from './source.ts';
import type { Readable } from './rope.ts';
import type { DataType, NewTensor } from './types.ts';

/** Smaller constants stay in memory. */
const LEAST_BYTES = 256 * 1024;

interface RangeFile {
  read(start: number, length: number): Uint8Array;
}

/** Bytes in a file that was made for them. */
export class FileSlice implements Readable {
  readonly length: number;
  readonly #file: RangeFile;
  readonly #offset: number;

  constructor(file: RangeFile, offset: number, length: number) {
    this.#file = file;
    this.#offset = offset;
    this.length = length;
  }

  read(start: number, end: number): Uint8Array {
    return this.#file.read(this.#offset + start, end - start);
  }
}

/** A new constant whose bytes lie in a file: `bytes` reads them at each call, and a model that it is added to does not. */
export class TensorInFile implements NewTensor {
  readonly dtype: DataType;
  readonly dims: readonly number[];
  readonly slice: FileSlice;

  constructor({ dtype, dims }: Pick<NewTensor, 'dtype' | 'dims'>, slice: FileSlice) {
    this.dtype = dtype;
    this.dims = dims;
    this.slice = slice;
  }

  get bytes(): Uint8Array {
    return this.slice.read(0, this.slice.length);
  }
}

/** A file that bytes are put into and read back from; its owner removes it. The descriptor goes with the last slice. */
export class ScratchFile implements RangeFile {
  readonly #path: string;
  readonly #fd: number;
  #end = 0;

  /** Makes the file. @throws {OnnxError} `onnx/file` */
  constructor(path: string) {
    this.#path = path;
    this.#fd = open(path, 'wx+');
    descriptors.register(this, this.#fd);
  }

  /** Puts the bytes behind what is there. */
  add(bytes: Uint8Array): FileSlice {
    const offset = this.#end;
    for (let done = 0; done < bytes.length; ) done += writeSync(this.#fd, bytes, done, undefined, offset + done);
    this.#end += bytes.length;
    return new FileSlice(this, offset, bytes.length);
  }

  read(start: number, length: number): Uint8Array {
    return readFully(this.#fd, start, length, this.#path);
  }
}

const descriptors = new FinalizationRegistry<number>((fd) => closeSync(fd));

/** A finished file, opened for each reading: there may be thousands of them. */
export class ClosedFile implements RangeFile {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  read(start: number, length: number): Uint8Array {
    const fd = open(this.#path, 'r');
    try {
      return readFully(fd, start, length, this.#path);
    } finally {
      closeSync(fd);
    }
  }
}

function open(path: string, flags: 'wx+' | 'r'): number {
  try {
    return openSync(path, flags, 0o600);
  } catch (cause) {
    throw fileError(path, cause);
  }
}

/** The tensor with its bytes in the file, unless they are few or lie in one already. */
export function moveToFile(tensor: NewTensor, scratch: ScratchFile): NewTensor {
  if (tensor instanceof TensorInFile || tensor.bytes.length < LEAST_BYTES) return tensor;
  return new TensorInFile(tensor, scratch.add(tensor.bytes));
}
