import { randomUUID } from 'node:crypto';
import { link, readFile, rename, rm, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ControllerError } from './errors.ts';

/**
 * Takes the data folder for this process; two controllers on one embedded database would destroy it. The lock names
 * its holder, so that one left by a killed controller is taken over.
 * @returns a function that gives it back
 * @throws {ControllerError} `controller/locked` while the holder lives
 */
export async function lockDataDir(dataDir: string): Promise<() => Promise<void>> {
  const path = join(dataDir, 'lock');
  const id = randomUUID();
  const mine = JSON.stringify({ pid: process.pid, started: await startOf(process.pid), id });
  const own = `${path}.${id}`;
  await writeFile(own, mine);
  try {
    for (let attempt = 0; attempt < 5; attempt++) {
      if (await tryLink(own, path)) return async () => release(path, mine);
      const text = await readFile(path, 'utf8').catch(() => undefined);
      if (text === undefined) continue; // given back just now
      const holder = await livingHolder(text);
      if (holder !== undefined) throw locked(dataDir, holder);
      await removeStale(path, text);
    }
    throw locked(dataDir, 'another process');
  } finally {
    await rm(own, { force: true });
  }
}

async function tryLink(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to); // atomic, and the content is there from the first moment
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

async function livingHolder(text: string): Promise<string | undefined> {
  let holder: { pid?: unknown; started?: unknown };
  try {
    holder = JSON.parse(text) as { pid?: unknown; started?: unknown };
  } catch {
    return undefined; // torn by a power cut
  }
  const { pid } = holder;
  if (typeof pid !== 'number' || !isAlive(pid)) return undefined;
  // A pid comes round again (in a container it is the same each time); its start time does not.
  if (holder.started !== (await startOf(pid))) return undefined;
  return `process ${pid}`;
}

/** Two starters may judge the same lock stale: only what was judged is removed. */
async function removeStale(path: string, judged: string): Promise<void> {
  const aside = `${path}.stale.${randomUUID()}`;
  await rename(path, aside).catch(() => undefined);
  const text = await readFile(aside, 'utf8').catch(() => undefined);
  if (text !== undefined && text !== judged) await link(aside, path).catch(() => undefined);
  await rm(aside, { force: true });
}

async function release(path: string, mine: string): Promise<void> {
  if ((await readFile(path, 'utf8').catch(() => '')) === mine) await unlink(path).catch(() => undefined);
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** Field 22 of `/proc/<pid>/stat`, ticks since boot; empty where there is no /proc. */
async function startOf(pid: number): Promise<string> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
}

const locked = (dataDir: string, holder: string): ControllerError =>
  new ControllerError('controller/locked', `${dataDir} is in use by ${holder}`, {
    where: dataDir,
    hint: 'stop that controller, or choose another data folder',
  });
