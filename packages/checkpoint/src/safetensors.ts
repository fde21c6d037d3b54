import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { CheckpointError } from './errors.ts';
import { toFloats } from './floats.ts';
import { type Entry, parseHeader } from './header.ts';

/** A tensor in a file: what the header says of it. */
export interface SafetensorsInfo {
  readonly name: string;
  /** As the format spells it: `F32`, `BF16`, `I64` … */
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly byteLength: number;
}

/** An open file. Only the header is in memory. */
export interface Safetensors {
  readonly path: string;
  /** In the order of the header. */
  readonly tensors: ReadonlyMap<string, SafetensorsInfo>;
  readonly metadata: ReadonlyMap<string, string>;
  /** The elements, little-endian, read from the file. @throws {CheckpointError} `checkpoint/missing` */
  read(name: string): Promise<Uint8Array>;
  /** F16, BF16, F32 and F64 as float32. @throws {CheckpointError} `checkpoint/missing`, `checkpoint/dtype` */
  floats(name: string): Promise<Float32Array>;
  close(): Promise<void>;
}

/** What the reference implementation allows: room for millions of tensors. */
const LONGEST_HEADER = 100_000_000;

/**
 * Opens a safetensors file and checks its whole header before anything is believed: every offset inside the file, no
 * overlap, no gap, no bytes left over, sizes equal to shape × dtype, no name twice.
 * @throws {CheckpointError} any code but the adapter's
 * @see safetensors 0.4 `validate`; stricter in one thing: duplicate names, which JSON parsers pass over
 */
export async function openSafetensors(path: string): Promise<Safetensors> {
  // Non-blocking, so that a FIFO in a weight's place does not hang the open.
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch((cause: NodeJS.ErrnoException) => {
    throw new CheckpointError('checkpoint/missing', `cannot open ${path}: ${cause.code ?? cause.message}`, {
      where: path,
      cause,
    });
  });
  try {
    const { entries, metadata, dataStart } = await readHeader(file, path);
    return new OpenFile(path, file, entries, metadata, dataStart);
  } catch (error) {
    await file.close();
    throw error;
  }
}

class OpenFile implements Safetensors {
  readonly path: string;
  readonly tensors: ReadonlyMap<string, Entry>;
  readonly metadata: ReadonlyMap<string, string>;
  readonly #file: FileHandle;
  readonly #dataStart: number;

  constructor(
    path: string,
    file: FileHandle,
    tensors: ReadonlyMap<string, Entry>,
    metadata: ReadonlyMap<string, string>,
    dataStart: number,
  ) {
    this.path = path;
    this.tensors = tensors;
    this.metadata = metadata;
    this.#file = file;
    this.#dataStart = dataStart;
  }

  async read(name: string): Promise<Uint8Array> {
    const entry = this.#entry(name);
    const bytes = await readExactly(this.#file, this.#dataStart + entry.begin, entry.byteLength);
    if (!bytes) throw new CheckpointError('checkpoint/offsets', `${name} is cut off`, { where: this.path });
    return bytes;
  }

  async floats(name: string): Promise<Float32Array> {
    const { dtype } = this.#entry(name);
    return toFloats(await this.read(name), dtype, `${this.path}: ${name}`);
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  #entry(name: string): Entry {
    const entry = this.tensors.get(name);
    if (!entry) {
      const some = [...this.tensors.keys()].slice(0, 3).join(', ');
      throw new CheckpointError('checkpoint/missing', `no tensor ${name}; there are ${some} …`, { where: this.path });
    }
    return entry;
  }
}

async function readHeader(file: FileHandle, path: string): Promise<ReturnType<typeof parseHeader>> {
  const stat = await file.stat();
  if (!stat.isFile()) throw new CheckpointError('checkpoint/not-safetensors', `${path} is not a file`, { where: path });
  const prefix = await readExactly(file, 0, 8);
  if (!prefix) throw new CheckpointError('checkpoint/not-safetensors', `${path} has under 8 bytes`, { where: path });
  const length = new DataView(prefix.buffer, prefix.byteOffset).getBigUint64(0, true);
  if (length > BigInt(LONGEST_HEADER) || length + 8n > BigInt(stat.size)) {
    const what = `a header of ${length} bytes in a file of ${stat.size}`;
    throw new CheckpointError('checkpoint/header-length', `${path}: ${what}`, { where: path });
  }
  const header = await readExactly(file, 8, Number(length));
  if (!header) throw new CheckpointError('checkpoint/header-length', `${path} is cut off`, { where: path });
  return parseHeader(header, stat.size, path);
}

async function readExactly(file: FileHandle, position: number, length: number): Promise<Uint8Array | undefined> {
  const bytes = new Uint8Array(length);
  let done = 0;
  while (done < length) {
    const { bytesRead } = await file.read(bytes, done, length - done, position + done);
    if (bytesRead === 0) return undefined;
    done += bytesRead;
  }
  return bytes;
}
