import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import type { Container } from './container.ts';
import { PackError } from './errors.ts';
import { indexName, layoutName, maxEntries } from './layout.ts';
import { blockBytes, decodeTarHeader, type TarEntry } from './tar-header.ts';

/** Tars are padded to whole records by some writers. */
const recordBytes = 20 * blockBytes;

/**
 * An image layout as one tar, listed by reading its headers alone; entries are then read by range, and nothing is ever
 * extracted by name. Accepts what `docker save`, skopeo and GNU tar write for a pack: regular files and the directories
 * `blobs/` and `blobs/sha256/`.
 */
export async function openTar(path: string): Promise<Container> {
  const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const regions = await list(handle, path);
    const entries = new Map([...regions].map(([name, { bytes }]) => [name, bytes]));
    return {
      entries,
      region: async (name) => {
        const region = regions.get(name);
        if (region === undefined)
          throw new PackError('pack/missing-blob', `${name} is not in the pack`, { where: name });
        return { handle, ...region, release: async () => {} };
      },
      close: () => handle.close(),
    };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

type Regions = Map<string, { readonly start: number; readonly bytes: number }>;

async function list(handle: FileHandle, path: string): Promise<Regions> {
  const { size } = await handle.stat();
  const regions: Regions = new Map();
  const seen = new Set<string>();
  for (let at = 0; ; ) {
    const header = await block(handle, at, size, path);
    if (header.every((byte) => byte === 0)) {
      await end(handle, at, size);
      return regions;
    }
    const entry = readHeader(header, at, path);
    const name = safeName(entry, at);
    if (seen.has(name)) throw unsafe(at, `${JSON.stringify(name)} occurs twice`);
    if (seen.add(name).size > maxEntries)
      throw new PackError('pack/too-large', `over ${maxEntries} entries in the tar`);
    const start = at + blockBytes;
    const padded = Math.ceil(entry.bytes / blockBytes) * blockBytes;
    if (start + padded > size) throw truncated(at, path);
    await zeros(handle, start + entry.bytes, start + padded);
    if (entry.kind === 'file') regions.set(name, { start, bytes: entry.bytes });
    at = start + padded;
  }
}

/** The first block tells a tar from any other file. */
function readHeader(header: Uint8Array, at: number, path: string): TarEntry {
  try {
    return decodeTarHeader(header, at);
  } catch (error) {
    const isTar = Buffer.from(header).toString('latin1', 257, 262) === 'ustar';
    if (at > 0 || isTar) throw error;
    throw new PackError('pack/not-a-pack', `${path} is not a pack (not a tar)`, { where: path, cause: error });
  }
}

/** Only names that a layout has; so no name is ever joined to a path, and `../` or `/etc` need no rule of their own. */
function safeName({ kind, name, bytes }: TarEntry, at: number): string {
  const plain = name.replace(/^\.\//, '');
  const isFile = plain === layoutName || plain === indexName || /^blobs\/sha256\/[0-9a-f]{64}$/.test(plain);
  if (kind === 'file' && isFile) return plain;
  if (kind === 'directory' && bytes === 0 && /^(|\.|blobs\/?|blobs\/sha256\/?)$/.test(plain))
    return `${plain.replace(/\/$/, '')}/`;
  throw unsafe(at, `${JSON.stringify(name)} is no name of an image layout`);
}

/** Two zero blocks, then nothing but zeros to the end of the record. */
async function end(handle: FileHandle, at: number, size: number): Promise<void> {
  const limit = Math.max(at + 2 * blockBytes, Math.ceil((at + 2 * blockBytes) / recordBytes) * recordBytes);
  if (size < at + 2 * blockBytes) throw truncated(at, 'the archive');
  if (size > limit)
    throw new PackError('pack/extra-data', `${size - limit} bytes after the archive’s end`, { where: `byte ${limit}` });
  await zeros(handle, at, size);
}

async function zeros(handle: FileHandle, from: number, to: number): Promise<void> {
  const bytes = new Uint8Array(to - from);
  const { bytesRead } = await handle.read(bytes, 0, bytes.length, from);
  if (bytesRead < bytes.length || bytes.some((byte) => byte !== 0))
    throw new PackError('pack/extra-data', `bytes that no entry owns after byte ${from}`, { where: `byte ${from}` });
}

async function block(handle: FileHandle, at: number, size: number, path: string): Promise<Uint8Array> {
  const bytes = new Uint8Array(blockBytes);
  if (at + blockBytes > size) {
    if (at === 0) throw new PackError('pack/not-a-pack', `${path} is not a pack: ${size} bytes`, { where: path });
    throw truncated(at, path);
  }
  await handle.read(bytes, 0, blockBytes, at);
  return bytes;
}

function truncated(at: number, path: string): PackError {
  return new PackError('pack/truncated', `${path} ends inside the entry at byte ${at}`, { where: `byte ${at}` });
}

function unsafe(at: number, problem: string): PackError {
  return new PackError('pack/unsafe-entry', `tar entry at byte ${at}: ${problem}`, { where: `byte ${at}` });
}
