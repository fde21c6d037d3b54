import { rename, rm, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { blobName } from './digest.ts';
import { fromSystem, PackError } from './errors.ts';
import { indexBytes, indexName, layoutBytes, layoutName } from './layout.ts';
import { type OpenOptions, openPack, type Pack } from './open.ts';
import { syncFolder, writeFileFrom } from './write-beside.ts';
import { once } from './write-layout.ts';

/** Where to put a blob while a pack is being fetched into `dir`. @throws {PackError} `pack/digest-invalid` */
export function blobPath(dir: string, digest: string): string {
  return join(dir, blobName(digest));
}

/**
 * Makes a pack of blobs that were fetched into `dir` (each at {@link blobPath}), and opens it, verifying everything.
 * May be repeated after a crash at any point. If it throws, the blobs stay for the caller to fetch anew or remove.
 * @param manifestDigest the pack's name, from a source that is trusted
 * @throws {PackError} as `openPack`
 */
export async function assemblePack(dir: string, manifestDigest: string, options?: OpenOptions): Promise<Pack> {
  const manifest = blobPath(dir, manifestDigest);
  const found = await stat(manifest).catch(() => undefined);
  if (found === undefined)
    throw new PackError('pack/missing-blob', `${manifest} is not there yet`, { where: manifestDigest });
  const { size } = found;
  try {
    await replace(dir, layoutName, layoutBytes);
    await replace(dir, indexName, indexBytes({ digest: manifestDigest, bytes: size }));
    for (const folder of ['blobs/sha256', 'blobs', '.']) await syncFolder(join(dir, folder));
  } catch (error) {
    throw fromSystem(error, manifest);
  }
  return openPack(dir, options);
}

async function replace(dir: string, name: string, bytes: Uint8Array): Promise<void> {
  // Not inside `dir` under a name of its own: a crash would leave a file that no pack may hold.
  const beside = `${resolve(dir)}.${name}.part`;
  await rm(beside, { force: true });
  await writeFileFrom(beside, once(bytes));
  await rename(beside, join(dir, name));
}
