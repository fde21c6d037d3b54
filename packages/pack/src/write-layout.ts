import { chmod, lstat, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { blobName, checked, digestOf } from './digest.ts';
import { indexBytes, indexName, layoutBytes, layoutName } from './layout.ts';
import type { Metadata } from './manifest.ts';
import { blockBytes, encodeTarHeader } from './tar-header.ts';
import type { Blob, PackConfig } from './types.ts';
import { syncFolder, writeBeside, writeFileFrom } from './write-beside.ts';

/** A blob and how to read it. */
export interface BlobSource extends Blob {
  readonly where: string;
  read(): AsyncIterable<Uint8Array>;
}

interface Named extends BlobSource {
  readonly name: string;
}

/**
 * Writes a pack: one tar if `out` ends in `.pack`, else a directory. The bytes depend on the blobs alone: metadata
 * first, then files by path. Each blob is checked against its digest on its way through.
 * @returns the manifest's digest, and the sum of all blobs in bytes
 */
export async function writeLayout(
  out: string,
  metadata: Metadata,
  files: readonly BlobSource[],
): Promise<{ readonly digest: string; readonly bytes: number }> {
  const blobs = blobSources(metadata, files);
  const write = out.endsWith('.pack') ? writeTar : writeDirectory;
  await writeBeside(out, isLayout, (path) => write(path, named(metadata, blobs)));
  return { digest: digestOf(metadata.manifest), bytes: blobs.reduce((sum, blob) => sum + blob.bytes, 0) };
}

/** The pack as one tar, the bytes that `writeLayout` gives a `.pack`. */
export function tarStream(metadata: Metadata, files: readonly BlobSource[]): AsyncIterable<Uint8Array> {
  return tarOf(named(metadata, blobSources(metadata, files)));
}

/** Each once, in the order in which they are written. */
function blobSources(metadata: Metadata, files: readonly BlobSource[]): readonly BlobSource[] {
  const blobs = new Map<string, BlobSource>();
  for (const bytes of [metadata.manifest, metadata.modelConfig, metadata.packConfig, metadata.signature])
    if (bytes !== undefined) blobs.set(digestOf(bytes), inMemory(bytes));
  for (const file of files) if (!blobs.has(file.digest)) blobs.set(file.digest, file);
  return [...blobs.values()];
}

function named({ manifest }: Metadata, blobs: readonly BlobSource[]): readonly Named[] {
  const index = indexBytes({ digest: digestOf(manifest), bytes: manifest.length });
  return [
    { ...inMemory(layoutBytes), name: layoutName },
    { ...inMemory(index), name: indexName },
    ...blobs.map((blob) => ({ ...blob, name: blobName(blob.digest) })),
  ];
}

/** A pack's files, read from wherever they are; two paths may share a blob. */
export function fileSources(
  config: PackConfig,
  read: (path: string) => AsyncIterable<Uint8Array>,
): readonly BlobSource[] {
  return config.files.map(({ path, digest, bytes }) => ({ digest, bytes, where: path, read: () => read(path) }));
}

async function writeDirectory(path: string, blobs: readonly Named[]): Promise<void> {
  await mkdir(join(path, 'blobs/sha256'), { recursive: true });
  for (const blob of blobs) await writeFileFrom(join(path, blob.name), checked(blob.read(), blob, blob.where));
  for (const folder of ['blobs/sha256', 'blobs', '.']) {
    await chmod(join(path, folder), 0o755); // whatever the umask
    await syncFolder(join(path, folder));
  }
}

async function writeTar(path: string, blobs: readonly Named[]): Promise<void> {
  await writeFileFrom(path, tarOf(blobs));
}

async function* tarOf(blobs: readonly Named[]): AsyncGenerator<Uint8Array, void, undefined> {
  for (const blob of blobs) {
    yield encodeTarHeader(blob.name, blob.bytes);
    yield* checked(blob.read(), blob, blob.where);
    yield new Uint8Array((blockBytes - (blob.bytes % blockBytes)) % blockBytes);
  }
  yield new Uint8Array(2 * blockBytes);
}

function inMemory(bytes: Uint8Array): BlobSource {
  return { digest: digestOf(bytes), bytes: bytes.length, where: 'metadata', read: () => once(bytes) };
}

export async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array, void, undefined> {
  yield bytes;
}

async function isLayout(dir: string): Promise<boolean> {
  return (await lstat(join(dir, layoutName)).catch(() => undefined))?.isFile() === true;
}
