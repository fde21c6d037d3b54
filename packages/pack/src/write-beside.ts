import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { lstat, mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { fromSystem, PackError } from './errors.ts';

/**
 * Lets `write` fill a new path beside `out`, then gives it its final name. Whatever goes wrong, `out` is either as it
 * was or complete, and nothing else stays behind; what a killed process left, the next one to write here removes.
 * What lies at `out` is replaced if it is a file or `replaceable`.
 */
export async function writeBeside<T>(
  out: string,
  replaceable: (dir: string) => Promise<boolean>,
  write: (path: string) => Promise<T>,
): Promise<T> {
  const final = resolve(out);
  const tag = `${process.pid}-${randomBytes(4).toString('hex')}`;
  const beside = join(dirname(final), `.${basename(final)}.${tag}.part`);
  try {
    await mkdir(dirname(final), { recursive: true });
    await mayReplace(final, replaceable);
    await removeAbandoned(final);
    const result = await write(beside);
    await swap(beside, final, tag);
    await syncFolder(dirname(final));
    return result;
  } catch (error) {
    await rm(beside, { recursive: true, force: true });
    throw fromSystem(error, out);
  }
}

/** Bytes after which the disk is set to work, beside what is still to come. */
const flushBytes = 64 * 1024 * 1024;

/** Copies chunks into a new file and forces them to the disk. */
export async function writeFileFrom(path: string, content: AsyncIterable<Uint8Array>): Promise<void> {
  // O_EXCL follows no link; mode 0644 whatever the umask, so that the same pack is the same everywhere.
  const handle = await open(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o644);
  try {
    await handle.chmod(0o644);
    let flushing = Promise.resolve();
    let waiting = 0;
    try {
      for await (const chunk of content) {
        await handle.writeFile(chunk); // loops where a full disk takes a part only
        waiting += chunk.length;
        if (waiting < flushBytes) continue;
        waiting = 0;
        await flushing;
        flushing = handle.datasync();
        flushing.catch(() => {}); // its turn to be told comes
      }
    } finally {
      await flushing;
    }
    await handle.sync();
  } finally {
    await handle.close();
  }
}

export async function syncFolder(path: string): Promise<void> {
  if (process.platform === 'win32') return; // directories cannot be opened there
  const handle = await open(path, constants.O_RDONLY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function mayReplace(path: string, replaceable: (dir: string) => Promise<boolean>): Promise<void> {
  const found = await lstat(path).catch(() => undefined);
  if (found === undefined || (found.isFile() && found.nlink === 1)) return;
  if (found.isDirectory() && ((await readdir(path)).length === 0 || (await replaceable(path)))) return;
  throw new PackError('pack/exists', `${path} is there already and will not be replaced`, {
    where: path,
    hint: 'choose another path, or remove it',
  });
}

/** Parts of writers that are no longer alive. */
async function removeAbandoned(final: string): Promise<void> {
  for (const name of await readdir(dirname(final))) {
    const rest = name.startsWith(`.${basename(final)}.`) ? name.slice(basename(final).length + 2) : '';
    const writer = /^(\d+)-[0-9a-f]{8}\.part$/.exec(rest)?.[1];
    if (writer !== undefined && !isAlive(Number(writer)))
      await rm(join(dirname(final), name), { recursive: true, force: true });
  }
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return !(error instanceof Error && 'code' in error && error.code === 'ESRCH');
  }
}

/** A directory cannot be renamed over one that holds files, so the old one steps aside first: killed
 * between the two, the old one is whole beside `final`, as `.NAME.….old`. */
async function swap(beside: string, final: string, tag: string): Promise<void> {
  const found = await lstat(final).catch(() => undefined);
  if (found?.isDirectory() !== true) {
    await rename(beside, final);
    return;
  }
  const aside = join(dirname(final), `.${basename(final)}.${tag}.old`);
  await rename(final, aside);
  try {
    await rename(beside, final);
  } catch (error) {
    await rename(aside, final);
    throw error;
  }
  await rm(aside, { recursive: true, force: true });
}
