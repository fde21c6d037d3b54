import { createHash } from 'node:crypto';
import { constants, createReadStream } from 'node:fs';
import { copyFile, link, mkdir, open, readdir, readFile, rename, rm, stat, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Disk } from './ports.ts';

/** The real disk. A name that ends in `.part` is a write that was cut off; nobody reads it. */
export const nodeDisk: Disk = {
  async read(path) {
    return unlessAbsent(async () => new Uint8Array(await readFile(path)));
  },
  async size(path) {
    return (await unlessAbsent(() => stat(path)))?.size;
  },
  async digest(path) {
    return unlessAbsent(async () => {
      const hash = createHash('sha256');
      for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Uint8Array);
      return `sha256:${hash.digest('hex')}`;
    });
  },
  async list(path) {
    return ((await unlessAbsent(() => readdir(path))) ?? []).sort();
  },
  async freeBytes(path) {
    const { bavail, bsize } = await statfs(path);
    return bavail * bsize;
  },
  async makeFolder(path) {
    const first = await mkdir(path, { recursive: true });
    if (first !== undefined) await syncFolder(dirname(first));
  },
  async write(path, bytes) {
    await replace(path, async (part) => {
      const file = await open(part, 'w', 0o600);
      try {
        await file.writeFile(bytes);
        await file.sync();
      } finally {
        await file.close();
      }
    });
  },
  async writeAt(path, offset, bytes) {
    const file = await open(path, constants.O_CREAT | constants.O_WRONLY, 0o600);
    try {
      // A short write is no error to the system: it is finished here, or ends in one.
      for (let at = 0; at < bytes.length; )
        at += (await file.write(bytes, at, bytes.length - at, offset + at)).bytesWritten;
      await file.datasync();
    } finally {
      await file.close();
    }
  },
  async move(from, to) {
    await rename(from, to);
    await syncFolder(dirname(to));
    if (dirname(from) !== dirname(to)) await syncFolder(dirname(from));
  },
  async link(from, to) {
    await link(from, to);
    await syncFolder(dirname(to));
  },
  async copy(from, to) {
    await replace(to, async (part) => {
      await copyFile(from, part, constants.COPYFILE_FICLONE);
      const file = await open(part, 'r+');
      try {
        await file.sync();
      } finally {
        await file.close();
      }
    });
  },
  async remove(path) {
    await rm(path, { recursive: true, force: true });
  },
};

async function replace(path: string, write: (part: string) => Promise<void>): Promise<void> {
  const part = `${path}.part`;
  try {
    await write(part);
    await rename(part, path);
  } catch (error) {
    await rm(part, { force: true });
    throw error;
  }
  await syncFolder(dirname(path));
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

async function unlessAbsent<T>(act: () => Promise<T>): Promise<T | undefined> {
  try {
    return await act();
  } catch (error) {
    if (error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR'))
      return undefined;
    throw error;
  }
}
