import { createHash } from 'node:crypto';
import { closeSync, constants, fstatSync, lstatSync, openSync, readlinkSync, realpathSync, type Stats } from 'node:fs';
import { join } from 'node:path';
import { OnnxError } from './errors.ts';
import { type Readable, Rope } from './rope.ts';
import { fileError, readFully } from './source.ts';
import type { OpenBytes } from './types.ts';

/** As protobufjs types it. */
interface Entry {
  readonly key?: string | null;
  readonly value?: string | null;
}

/** Everything that ONNX defines here. `basepath` is from older exporters and never followed. */
const knownKeys: ReadonlySet<string> = new Set(['location', 'offset', 'length', 'checksum', 'basepath']);

/**
 * The external data of one tensor. Nothing is opened yet: where it lies is checked as text only.
 * @throws {OnnxError} `onnx/external-key`, `onnx/external-path`, `onnx/external-range`
 */
export function parseExternal(
  folder: ExternalFolder,
  tensor: string,
  entries: readonly Entry[],
  byteLength: number,
): ExternalRange {
  const values = new Map<string, string>();
  for (const entry of entries) {
    const key = entry.key ?? '';
    if (values.has(key)) throw refuse('onnx/external-key', tensor, `states its external ${key} twice`);
    values.set(key, entry.value ?? '');
    // CVE-2026-34445: foreign keys once became attributes of an object.
    if (!knownKeys.has(key)) folder.warn(`tensor "${tensor}": external data key "${key}" is unknown and ignored`);
  }
  const location = values.get('location');
  if (location === undefined) throw refuse('onnx/external-key', tensor, 'has no location for its external data');
  const fault = pathFault(location);
  if (fault !== undefined) throw refuse('onnx/external-path', tensor, `lies in "${location}", which ${fault}`);
  const offset = parseCount(values.get('offset') ?? '0', tensor, 'offset');
  const length = parseCount(values.get('length') ?? String(byteLength), tensor, 'length');
  if (length !== byteLength)
    throw refuse('onnx/external-range', tensor, `takes ${byteLength} bytes but its external data has ${length}`);
  folder.locations.add(location);
  return new ExternalRange(folder, tensor, { location, offset, length, checksum: values.get('checksum') });
}

/** `1e3`, `0x10`, ` 4`, −1 and what is over 2^53 are no offsets. */
function parseCount(text: string, tensor: string, what: string): number {
  const count = Number(text);
  if (!/^(0|[1-9][0-9]*)$/.test(text) || !Number.isSafeInteger(count))
    throw refuse('onnx/external-range', tensor, `has an external ${what} of "${text}"`);
  return count;
}

/** Why the location is not a plain path inside a folder; undefined if it is. Windows' ways are refused everywhere. */
export function pathFault(location: string): string | undefined {
  if (location === '') return 'is empty';
  // biome-ignore lint: a NUL ends a path for the system, not for us
  if (/[\u0000-\u001f\\:]/.test(location)) return 'has a control character, a backslash or a colon';
  if (/%(2e|2f|5c|00)/i.test(location)) return 'has an encoded dot or slash';
  if (location.startsWith('/')) return 'is absolute';
  if (location.split('/').some((part) => part === '..')) return 'leaves its folder';
  if (location.split('/').some((part) => part === '' || part === '.')) return 'is not in its shortest form';
  return undefined;
}

/** A model's own folder, the only one that its external data may come from. */
export class ExternalFolder {
  readonly warnings: string[] = [];
  /** Every file that a tensor was met to lie in. */
  readonly locations = new Set<string>();
  /** Canonical; undefined for a model that came as bytes. */
  readonly #root: string | undefined;
  /** Each file as it was when first read: it must stay the same one. */
  readonly #seen = new Map<string, Stats>();
  readonly #verified = new Set<string>();

  constructor(path: string | undefined) {
    this.#root = path === undefined ? undefined : realpathSync(path);
  }

  warn(warning: string): void {
    this.warnings.push(warning);
  }

  get root(): string | undefined {
    return this.#root;
  }

  /** The open file's descriptor is lent to `use`. @throws {OnnxError} `onnx/external-path`, `onnx/external-file`, `onnx/changed` */
  withFile<T>(location: string, tensor: string, use: (fd: number, size: number) => T): T {
    const { fd, size } = this.open(location, tensor);
    try {
      return use(fd, size);
    } finally {
      closeSync(fd);
    }
  }

  /** As `withFile`, to be closed by the caller. */
  open(location: string, tensor: string): { readonly fd: number; readonly size: number } {
    if (this.#root === undefined)
      throw new OnnxError(
        'onnx/external-file',
        `tensor "${tensor}" lies in "${location}", but the model has no folder`,
        {
          where: tensor,
          hint: 'open the model by its path, or pass baseDir',
        },
      );
    const fd = openInside(this.#root, location, tensor);
    try {
      const stats = fstatSync(fd);
      const before = this.#seen.get(location);
      if (before !== undefined && !sameFile(before, stats))
        throw refuse('onnx/changed', tensor, `lies in "${location}", which changed while the model was open`);
      this.#seen.set(location, stats);
      return { fd, size: stats.size };
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  /** A whole file, to be copied. */
  wholeFile(location: string): Rope {
    const length = this.withFile(location, location, (_, size) => size);
    const range = new ExternalRange(this, location, { location, offset: 0, length, checksum: undefined });
    return new Rope().addRange(range, 0, length);
  }

  /** SHA-1 of the whole file, once per file. */
  verify(location: string, tensor: string, checksum: string): void {
    const key = `${checksum} ${location}`;
    if (this.#verified.has(key)) return;
    this.withFile(location, tensor, (fd, size) => {
      const hash = createHash('sha1');
      const chunkBytes = 4 * 1024 * 1024;
      for (let at = 0; at < size; at += chunkBytes)
        hash.update(readFully(fd, at, Math.min(chunkBytes, size - at), location));
      if (hash.digest('hex') !== checksum.toLowerCase())
        throw refuse('onnx/external-checksum', tensor, `lies in "${location}", whose SHA-1 is not ${checksum}`);
    });
    this.#verified.add(key);
  }
}

/** One tensor's bytes in an external file. The file is opened, checked and closed at each read. */
export class ExternalRange implements Readable {
  readonly location: string;
  readonly offset: number;
  readonly length: number;
  readonly #folder: ExternalFolder;
  readonly #tensor: string;
  readonly #checksum: string | undefined;

  constructor(
    folder: ExternalFolder,
    tensor: string,
    place: { location: string; offset: number; length: number; checksum: string | undefined },
  ) {
    this.#folder = folder;
    this.#tensor = tensor;
    this.location = place.location;
    this.offset = place.offset;
    this.length = place.length;
    this.#checksum = place.checksum;
  }

  /** That the file is there, may be read and holds the range. */
  check(): void {
    this.read(0, 0);
  }

  read(start: number, end: number): Uint8Array {
    const { fd, offset, close } = this.open();
    try {
      return readFully(fd, offset + start, end - start, this.location);
    } finally {
      close();
    }
  }

  open(): OpenBytes {
    const { location, offset, length } = this;
    if (this.#checksum !== undefined) this.#folder.verify(location, this.#tensor, this.#checksum);
    const { fd, size } = this.#folder.open(location, this.#tensor);
    const close = (): void => closeSync(fd);
    if (offset + length <= size) return { fd, offset, close };
    close();
    throw refuse(
      'onnx/external-range',
      this.#tensor,
      `takes bytes ${offset} to ${offset + length} of "${location}", which has ${size}`,
    );
  }
}

/**
 * Opens a file below `root` without following a link anywhere below it, and without waiting for a pipe.
 * Names are checked first, then what was opened is checked again, since names may be swapped in between.
 */
function openInside(root: string, location: string, tensor: string): number {
  const parts = location.split('/');
  for (let depth = 1; depth < parts.length; depth++) {
    const folder = statName(join(root, ...parts.slice(0, depth)), location, tensor);
    if (!folder.isDirectory())
      throw refuse('onnx/external-file', tensor, `lies in "${location}", where "${parts[depth - 1]}" is no folder`);
  }
  const path = join(root, ...parts);
  const named = statName(path, location, tensor);
  refuseOddFile(named, location, tensor);
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0));
  } catch (cause) {
    throw refuse('onnx/external-file', tensor, `lies in "${location}": ${fileError(location, cause).message}`);
  }
  try {
    const opened = fstatSync(fd);
    refuseOddFile(opened, location, tensor);
    if (opened.ino !== named.ino || opened.dev !== named.dev || realPathOf(fd, path) !== path)
      throw refuse('onnx/external-file', tensor, `lies in "${location}", which was replaced while it was opened`);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** What the kernel says was opened, where it can be asked (Linux); else the name resolved again. */
function realPathOf(fd: number, path: string): string {
  try {
    return process.platform === 'linux' ? readlinkSync(`/proc/self/fd/${fd}`) : realpathSync(path);
  } catch {
    return '';
  }
}

function statName(path: string, location: string, tensor: string): Stats {
  try {
    return lstatSync(path);
  } catch (cause) {
    throw refuse('onnx/external-file', tensor, `lies in "${location}": ${fileError(location, cause).message}`);
  }
}

function refuseOddFile(stats: Stats, location: string, tensor: string): void {
  const kind = stats.isSymbolicLink() ? 'a symbolic link' : stats.isFile() ? undefined : 'not a regular file';
  if (kind !== undefined) throw refuse('onnx/external-file', tensor, `lies in "${location}", which is ${kind}`);
  // CVE-2026-34446: a hard link is a way to another folder's file.
  if (stats.nlink !== 1)
    throw refuse('onnx/external-file', tensor, `lies in "${location}", which has ${stats.nlink} names (hard links)`);
}

function sameFile(a: Stats, b: Stats): boolean {
  return a.ino === b.ino && a.dev === b.dev && a.size === b.size && a.mtimeMs === b.mtimeMs;
}

function refuse(code: OnnxError['code'], tensor: string, what: string): OnnxError {
  return new OnnxError(code, `tensor "${tensor}" ${what}`, { where: tensor });
}
