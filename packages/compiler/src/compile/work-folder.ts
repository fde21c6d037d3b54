import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { uptime } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { CompilerError } from '../errors.ts';

export interface WorkFolderOptions {
  /** Of all that the result depends on: the folder is named after it. */
  readonly digest: string;
  /** Takes up what an earlier run left that was killed, and leaves what is finished when this one fails. */
  readonly resume: boolean;
}

/** Finished weights, by how their files are called: what is worth keeping. */
const KEPT = /^weight-[0-9a-f]+$/;
/** Whose folder it is. */
const OWNER = 'owner.json';

/**
 * A folder beside the output, on the disk that the output must fit on anyway; gone when the work ends, however it ends,
 * but for what `resume` keeps. Killed processes leave theirs: the next run with the same digest takes it or removes it.
 */
export async function inWorkFolder<T>(
  out: string,
  options: WorkFolderOptions,
  work: (folder: string) => Promise<T>,
): Promise<T> {
  const parent = dirname(resolve(out));
  const folder = await openFolder(parent, options).catch((cause: NodeJS.ErrnoException) => {
    throw new CompilerError('compiler/output', `cannot write into ${parent}: ${cause.code ?? cause.message}`, {
      where: parent,
      cause,
    });
  });
  let keeps = options.resume;
  try {
    const result = await work(folder);
    keeps = false;
    return result;
  } finally {
    if (!keeps || !(await keepFinished(folder))) await rm(folder, { recursive: true, force: true });
  }
}

async function openFolder(parent: string, { digest, resume }: WorkFolderOptions): Promise<string> {
  const prefix = join(parent, `.flotilla-compile-${digest.slice(0, 16)}`);
  if (!(await makeFolder(prefix))) {
    // A second run of the same at the same time has a folder of its own.
    if (await isOwned(prefix)) return mkdtemp(`${prefix}-`);
    if (!resume || !(await isOfThisBoot(prefix)) || !(await keepFinished(prefix))) {
      await rm(prefix, { recursive: true, force: true });
      await mkdir(prefix);
    }
  }
  try {
    await writeFile(join(prefix, OWNER), JSON.stringify({ pid: process.pid, boot: await bootId() }));
  } catch (error) {
    if (!resume) await rm(prefix, { recursive: true, force: true }); // a full disk
    throw error;
  }
  return prefix;
}

async function makeFolder(path: string): Promise<boolean> {
  try {
    await mkdir(path, { mode: 0o700 });
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return false;
    throw error;
  }
}

/** Removes all that is not a finished weight; whether anything is left. */
async function keepFinished(folder: string): Promise<boolean> {
  const names = await readdir(folder);
  const kept = names.filter((name) => KEPT.test(name));
  if (kept.length === 0) return false;
  for (const name of names.filter((one) => !KEPT.test(one) && one !== OWNER))
    await rm(join(folder, name), { recursive: true, force: true });
  return true;
}

interface Owner {
  readonly pid?: unknown;
  readonly boot?: unknown;
}

async function ownerOf(folder: string): Promise<Owner> {
  try {
    return JSON.parse(await readFile(join(folder, OWNER), 'utf8')) as Owner;
  } catch {
    return {};
  }
}

async function isOwned(folder: string): Promise<boolean> {
  const { pid, boot } = await ownerOf(folder);
  if (typeof pid !== 'number' || boot !== (await bootId())) return false;
  if (pid === process.pid) return true;
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** Files that were not flushed may be empty after a power cut, so what was made before the last start counts for nothing. */
async function isOfThisBoot(folder: string): Promise<boolean> {
  return (await ownerOf(folder)).boot === (await bootId());
}

async function bootId(): Promise<string> {
  return readFile('/proc/sys/kernel/random/boot_id', 'utf8').then(
    (id) => id.trim(),
    () => `started ${Math.round((Date.now() / 1000 - uptime()) / 60)}`,
  );
}
