import { constants } from 'node:fs';
import { lstat, open, readdir, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import type { Container, Region } from './container.ts';
import { fromSystem, PackError } from './errors.ts';
import { indexName, layoutName, maxEntries } from './layout.ts';

/**
 * An image layout as a directory. The path itself may be a link (a slot pointer); below it only real directories and
 * regular files with one name are accepted: a second name is a way to change the file from outside.
 */
export async function openDirectory(path: string): Promise<Container> {
  const root = await realpath(path);
  const entries = new Map<string, number>();
  const names = await readdir(root);
  if (!names.includes(layoutName))
    throw new PackError('pack/not-a-pack', `${path} is no pack: it has no oci-layout file`, { where: path });
  for (const name of names) {
    if (name === layoutName || name === indexName) entries.set(name, await regularFile(root, name));
    else if (name !== 'blobs') throw new PackError('pack/extra-data', `"${name}" belongs to no pack`, { where: name });
  }
  await folder(root, 'blobs');
  for (const name of await readdir(join(root, 'blobs')))
    if (name !== 'sha256')
      throw new PackError('pack/digest-invalid', `blobs/${name}: only sha256 is used`, { where: name });
  await folder(root, 'blobs/sha256');
  const blobs = await readdir(join(root, 'blobs/sha256'));
  if (blobs.length > maxEntries) throw new PackError('pack/too-large', `${blobs.length} blobs, over ${maxEntries}`);
  for (const name of blobs) entries.set(`blobs/sha256/${name}`, await regularFile(root, `blobs/sha256/${name}`));
  return {
    entries,
    region: (name) => openRegion(root, name, entries.get(name)),
    close: async () => {},
  };
}

async function openRegion(root: string, name: string, expectedBytes: number | undefined): Promise<Region> {
  if (expectedBytes === undefined)
    throw new PackError('pack/missing-blob', `${name} is not in the pack`, { where: name });
  try {
    // O_NOFOLLOW and O_NONBLOCK: a link or FIFO put here since the listing is refused, and never waited for.
    const handle = await open(join(root, name), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const found = await handle.stat();
    if (!found.isFile() || found.nlink !== 1 || found.size !== expectedBytes) {
      await handle.close();
      throw new PackError('pack/changed', `${name} changed since the pack was opened`, { where: name });
    }
    return { handle, start: 0, bytes: found.size, release: () => handle.close() };
  } catch (error) {
    throw fromSystem(error, name);
  }
}

async function regularFile(root: string, name: string): Promise<number> {
  const found = await lstat(join(root, name));
  if (!found.isFile()) throw new PackError('pack/unsafe-entry', `${name} is not a regular file`, { where: name });
  if (found.nlink !== 1) throw new PackError('pack/unsafe-entry', `${name} is a hard link`, { where: name });
  return found.size;
}

async function folder(root: string, name: string): Promise<void> {
  const found = await lstat(join(root, name)).catch(() => undefined);
  if (found?.isDirectory() !== true)
    throw new PackError('pack/unsafe-entry', `${name} is not a directory`, { where: name });
}
