import { crc32, inflateRawSync } from 'node:zlib';
import { RuntimeError } from './errors.ts';

const END_OF_DIRECTORY = 0x06054b50;
const DIRECTORY_ENTRY = 0x02014b50;
const LOCAL_HEADER = 0x04034b50;

export interface ZipEntry {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/**
 * Reads a whole ZIP archive: stored and deflated entries, no ZIP64, no encryption, one part.
 * @param maxBytes of all entries together, before anything is inflated
 * @throws {RuntimeError} `runtime/npz`, naming the offset or the entry
 */
export function readZip(file: Uint8Array, maxBytes: number): ZipEntry[] {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const end = findEnd(view);
  const count = view.getUint16(end + 10, true);
  let offset = view.getUint32(end + 16, true);
  const entries: ZipEntry[] = [];
  const names = new Set<string>();
  let total = 0;
  for (let i = 0; i < count; i++) {
    if (offset + 46 > end || view.getUint32(offset, true) !== DIRECTORY_ENTRY)
      throw bad(`no directory entry at byte ${offset}`);
    const nameLength = view.getUint16(offset + 28, true);
    const size = view.getUint32(offset + 24, true);
    const next = offset + 46 + nameLength + view.getUint16(offset + 30, true) + view.getUint16(offset + 32, true);
    if (next > end) throw bad(`the directory entry at byte ${offset} is cut off`);
    const name = Buffer.from(file.subarray(offset + 46, offset + 46 + nameLength)).toString('utf8');
    total += size;
    if (total > maxBytes) throw bad(`the entries are larger than ${maxBytes} bytes`);
    if (names.has(name)) throw bad(`${JSON.stringify(name)} is in the archive twice`);
    names.add(name);
    entries.push({ name, bytes: readEntry(file, view, offset, name, end) });
    offset = next;
  }
  return entries;
}

function readEntry(file: Uint8Array, view: DataView, entry: number, name: string, end: number): Uint8Array {
  const method = view.getUint16(entry + 10, true);
  const packed = view.getUint32(entry + 20, true);
  const size = view.getUint32(entry + 24, true);
  const local = view.getUint32(entry + 42, true);
  if (view.getUint16(entry + 8, true) & 1) throw bad(`${JSON.stringify(name)} is encrypted`);
  if (local + 30 > end || view.getUint32(local, true) !== LOCAL_HEADER)
    throw bad(`${JSON.stringify(name)} has no local header at byte ${local}`);
  const start = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
  if (start + packed > end) throw bad(`${JSON.stringify(name)} runs past the end of the file`);
  const raw = file.subarray(start, start + packed);
  const bytes = unpack(raw, method, size, name);
  if (crc32(bytes) !== view.getUint32(entry + 16, true)) throw bad(`${JSON.stringify(name)} fails its checksum`);
  return bytes;
}

function unpack(raw: Uint8Array, method: number, size: number, name: string): Uint8Array {
  if (method === 0 && raw.length === size) return raw;
  if (method !== 8) throw bad(`${JSON.stringify(name)} is compressed by method ${method}, or its sizes differ`);
  try {
    const bytes = inflateRawSync(raw, { maxOutputLength: Math.max(1, size) });
    if (bytes.length === size) return bytes;
  } catch (cause) {
    throw bad(`${JSON.stringify(name)} cannot be inflated to the ${size} bytes that it declares`, cause);
  }
  throw bad(`${JSON.stringify(name)} is shorter than the ${size} bytes that it declares`);
}

function findEnd(view: DataView): number {
  const first = Math.max(0, view.byteLength - 22 - 65_535); // the comment's greatest length
  for (let at = view.byteLength - 22; at >= first; at--) if (view.getUint32(at, true) === END_OF_DIRECTORY) return at;
  throw bad('not a ZIP archive');
}

/** A ZIP archive of stored entries with a fixed date: the same entries give the same bytes. */
export function writeZip(entries: readonly ZipEntry[]): Uint8Array {
  const parts: Uint8Array[] = [];
  const directory: Uint8Array[] = [];
  let offset = 0;
  for (const { name, bytes } of entries) {
    const encoded = new TextEncoder().encode(name);
    const header = new DataView(new ArrayBuffer(30));
    header.setUint32(0, LOCAL_HEADER, true);
    header.setUint16(4, 20, true); // version needed
    header.setUint16(12, 0x21, true); // 1980-01-01
    header.setUint32(14, crc32(bytes), true);
    header.setUint32(18, bytes.length, true);
    header.setUint32(22, bytes.length, true);
    header.setUint16(26, encoded.length, true);
    const entry = new DataView(new ArrayBuffer(46));
    entry.setUint32(0, DIRECTORY_ENTRY, true);
    entry.setUint16(4, 20, true);
    new Uint8Array(entry.buffer).set(new Uint8Array(header.buffer, 4, 26), 6); // the same fields, two bytes further
    entry.setUint32(42, offset, true);
    parts.push(new Uint8Array(header.buffer), encoded, bytes);
    directory.push(new Uint8Array(entry.buffer), encoded);
    offset += 30 + encoded.length + bytes.length;
    if (offset > 0xffff_0000) throw bad('more than 4 GB do not go into one .npz');
  }
  const directoryBytes = directory.reduce((sum, part) => sum + part.length, 0);
  const end = new DataView(new ArrayBuffer(22));
  end.setUint32(0, END_OF_DIRECTORY, true);
  end.setUint16(8, entries.length, true);
  end.setUint16(10, entries.length, true);
  end.setUint32(12, directoryBytes, true);
  end.setUint32(16, offset, true);
  return Buffer.concat([...parts, ...directory, new Uint8Array(end.buffer)]);
}

function bad(problem: string, cause?: unknown): RuntimeError {
  return new RuntimeError('runtime/npz', problem, { cause });
}
