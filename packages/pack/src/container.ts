import type { FileHandle } from 'node:fs/promises';
import { stat } from 'node:fs/promises';
import { openDirectory } from './directory-container.ts';
import { fromSystem, PackError } from './errors.ts';
import { openTar } from './tar-container.ts';

/** An image layout as names and byte ranges, whether it is a directory or a tar. Nothing in it is trusted. */
export interface Container {
  /** Size by name (`blobs/sha256/<hex>`, `index.json`, `oci-layout`). */
  readonly entries: ReadonlyMap<string, number>;
  /** @throws {PackError} `pack/missing-blob` */
  region(name: string): Promise<Region>;
  close(): Promise<void>;
}

/** Bytes `[start, start + bytes)` of an open file. */
export interface Region {
  readonly handle: FileHandle;
  readonly start: number;
  readonly bytes: number;
  release(): Promise<void>;
}

export async function openContainer(path: string): Promise<Container> {
  try {
    const { isDirectory, isFile } = await kindOf(path);
    if (isDirectory) return await openDirectory(path);
    if (isFile) return await openTar(path);
  } catch (error) {
    throw fromSystem(error, path);
  }
  throw new PackError('pack/not-a-pack', `${path} is neither a directory nor a file`, { where: path });
}

/** @throws {PackError} `pack/size-mismatch` if the range leaves the entry */
export async function readRange(
  container: Container,
  name: string,
  offset: number,
  length: number,
): Promise<Uint8Array> {
  const region = await container.region(name);
  try {
    if (!(offset >= 0) || !(length >= 0) || offset + length > region.bytes)
      throw new PackError('pack/size-mismatch', `${name} has ${region.bytes} bytes, not ${offset + length}`, {
        where: name,
      });
    const bytes = new Uint8Array(length);
    await fill(region, offset, bytes, name);
    return bytes;
  } catch (error) {
    throw fromSystem(error, name);
  } finally {
    await region.release();
  }
}

/** A whole small entry. @throws {PackError} `pack/missing-blob`, `pack/too-large` */
export async function readSmall(container: Container, name: string, maxBytes: number): Promise<Uint8Array> {
  const bytes = container.entries.get(name) ?? 0;
  if (bytes > maxBytes)
    throw new PackError('pack/too-large', `${name} has ${bytes} bytes, over the limit of ${maxBytes}`, { where: name });
  return readRange(container, name, 0, bytes);
}

/** An entry in chunks of at most 1 MiB, each in memory of its own. */
export async function* chunks(
  container: Container,
  name: string,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array, void, undefined> {
  const region = await container.region(name);
  try {
    for (let offset = 0; offset < region.bytes; offset += chunkBytes) {
      signal?.throwIfAborted();
      const chunk = new Uint8Array(Math.min(chunkBytes, region.bytes - offset));
      await fill(region, offset, chunk, name);
      yield chunk;
    }
  } catch (error) {
    throw fromSystem(error, name);
  } finally {
    await region.release();
  }
}

const chunkBytes = 1 << 20;

async function fill(region: Region, offset: number, into: Uint8Array, name: string): Promise<void> {
  for (let done = 0; done < into.length; ) {
    const { bytesRead } = await region.handle.read(into, done, into.length - done, region.start + offset + done);
    if (bytesRead === 0)
      throw new PackError('pack/changed', `${name} became shorter while it was read`, { where: name });
    done += bytesRead;
  }
}

async function kindOf(path: string): Promise<{ readonly isDirectory: boolean; readonly isFile: boolean }> {
  const found = await stat(path);
  return { isDirectory: found.isDirectory(), isFile: found.isFile() };
}
