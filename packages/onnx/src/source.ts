import { closeSync, constants, fstatSync, openSync, readSync, type Stats } from 'node:fs';
import { OnnxError } from './errors.ts';
import type { OpenBytes } from './types.ts';

/** Bytes that ranges point into: a buffer, or a file read by positioned reads. Nothing read is kept, but for one small window. */
export abstract class Source {
  /** For messages: the file's path, or what the caller called the bytes. */
  readonly name: string;
  readonly size: number;
  protected window: Uint8Array;
  protected windowStart = 0;

  constructor(name: string, size: number, window: Uint8Array) {
    this.name = name;
    this.size = size;
    this.window = window;
  }

  byte(offset: number): number {
    return this.window[offset - this.windowStart] ?? this.load(offset);
  }

  /** The bytes `[start, end)`: a view or a copy that stays as it is. */
  abstract read(start: number, end: number): Uint8Array;

  /** The file that the bytes lie in; undefined where there is none. */
  abstract lend(offset: number): OpenBytes | undefined;

  /** Moves the window over the offset. */
  protected abstract load(offset: number): number;
}

export class MemorySource extends Source {
  constructor(bytes: Uint8Array, name = 'bytes') {
    super(name, bytes.length, bytes);
  }

  read(start: number, end: number): Uint8Array {
    return this.window.subarray(start, end);
  }

  lend(): undefined {}

  protected load(offset: number): number {
    throw cutShort(this, offset);
  }
}

const windowBytes = 64 * 1024;
/** Smaller files are read whole, and hold no file descriptor. */
const wholeFileBytes = 1024 * 1024;

class FileSource extends Source {
  readonly #fd: number;
  readonly #stats: Stats;

  constructor(name: string, fd: number, stats: Stats) {
    super(name, stats.size, new Uint8Array(0));
    this.#fd = fd;
    this.#stats = stats;
    // A Model has no close(): its ranges may be read as long as it lives.
    descriptors.register(this, fd);
  }

  read(start: number, end: number): Uint8Array {
    const length = end - start;
    if (length > windowBytes) return this.#pread(start, length);
    if (length > 0 && !(start >= this.windowStart && end <= this.windowStart + this.window.length)) this.load(start);
    return this.window.slice(start - this.windowStart, end - this.windowStart);
  }

  protected load(offset: number): number {
    if (offset >= this.size) throw cutShort(this, offset);
    this.window = this.#pread(offset, Math.min(windowBytes, this.size - offset));
    this.windowStart = offset;
    return this.window[0] ?? 0;
  }

  lend(offset: number): OpenBytes {
    this.#checkUnchanged();
    // The descriptor is closed when this is forgotten, which until then it must not be.
    return { fd: this.#fd, offset, close: () => void this };
  }

  #pread(start: number, length: number): Uint8Array {
    this.#checkUnchanged();
    return readFully(this.#fd, start, length, this.name);
  }

  #checkUnchanged(): void {
    const now = fstatSync(this.#fd);
    if (now.size !== this.size || now.mtimeMs !== this.#stats.mtimeMs)
      throw new OnnxError('onnx/changed', `${this.name} was written to while it was open`, { where: this.name });
  }
}

const descriptors = new FinalizationRegistry<number>((fd) => closeSync(fd));

/** A regular file as a source. @throws {OnnxError} `onnx/file` */
export function openSource(path: string): Source {
  let fd: number;
  try {
    // Non-blocking: opening a pipe must not wait for a writer.
    fd = openSync(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
  } catch (cause) {
    throw fileError(path, cause);
  }
  let kept = false;
  try {
    const stats = fstatSync(fd);
    if (!stats.isFile()) throw new OnnxError('onnx/file', `${path} is not a regular file`, { where: path });
    if (stats.size <= wholeFileBytes) return new MemorySource(readFully(fd, 0, stats.size, path), path);
    kept = true;
    return new FileSource(path, fd, stats);
  } finally {
    if (!kept) closeSync(fd);
  }
}

/** Reads `length` bytes at `start`. @throws {OnnxError} `onnx/file` on a short or failed read */
export function readFully(fd: number, start: number, length: number, name: string): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let done = 0; done < length; ) {
    let count: number;
    try {
      count = readSync(fd, bytes, done, Math.min(length - done, 1 << 30), start + done);
    } catch (cause) {
      throw fileError(name, cause);
    }
    if (count === 0) throw new OnnxError('onnx/changed', `${name} became shorter while it was read`, { where: name });
    done += count;
  }
  return bytes;
}

export function fileError(path: string, cause: unknown): OnnxError {
  const reason = cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause);
  const words: ReadonlyMap<string, string> = new Map([
    ['ENOENT', 'does not exist'],
    ['EACCES', 'may not be read'],
    ['EISDIR', 'is a folder'],
  ]);
  return new OnnxError('onnx/file', `${path} ${words.get(reason) ?? `cannot be read (${reason})`}`, {
    where: path,
    cause,
  });
}

function cutShort(source: Source, offset: number): OnnxError {
  return new OnnxError('onnx/malformed', `${source.name}: ends at byte ${offset}, in the middle of a field`, {
    where: `${source.name}, byte ${offset}`,
  });
}
