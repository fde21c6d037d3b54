import { link, mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { AgentError } from './errors.ts';

/** A data folder belongs to one process at a time. @returns frees it @throws {AgentError} `agent/identity-in-use` */
export async function lockFolder(dataDir: string): Promise<() => Promise<void>> {
  const path = join(dataDir, 'agent.lock');
  const mine = `${process.pid} ${await startOf(process.pid)} ${Math.random().toString(36).slice(2)}\n`;
  try {
    await mkdir(dataDir, { recursive: true });
    for (let attempt = 0; attempt < 5; attempt++) {
      if (await create(path, mine)) return () => release(path, mine);
      const theirs = await readFile(path, 'utf8').catch(() => '');
      if (await isAlive(theirs)) throw inUse(dataDir, theirs);
      await removeStale(path, theirs);
    }
    throw inUse(dataDir, await readFile(path, 'utf8').catch(() => ''));
  } catch (error) {
    if (error instanceof AgentError) throw error;
    throw new AgentError('agent/storage', `${dataDir} cannot be used: ${String(error)}`, {
      where: dataDir,
      cause: error,
    });
  }
}

/** Left by a process that is no more. Renaming gives it to one of several that found it at once. */
async function removeStale(path: string, content: string): Promise<void> {
  const aside = `${path}.${process.pid}.${Math.random().toString(36).slice(2)}`;
  await rename(path, aside).catch(() => undefined);
  // Another one was quicker, and this is its lock: back with it.
  if ((await readFile(aside, 'utf8').catch(() => content)) !== content) await link(aside, path).catch(() => undefined);
  await rm(aside, { force: true });
}

/** True while an agent runs on the folder. */
export async function isLocked(dataDir: string): Promise<boolean> {
  return isAlive(await readFile(join(dataDir, 'agent.lock'), 'utf8').catch(() => ''));
}

/** Whole or not at all: a lock without its owner's id in it would look stale. */
async function create(path: string, content: string): Promise<boolean> {
  const beside = `${path}.${process.pid}.${content.slice(-6, -1)}`;
  const file = await open(beside, 'w', 0o600);
  try {
    await file.writeFile(content);
  } finally {
    await file.close();
  }
  try {
    await link(beside, path);
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return false;
    throw error;
  } finally {
    await rm(beside, { force: true });
  }
}

async function release(path: string, mine: string): Promise<void> {
  if ((await readFile(path, 'utf8').catch(() => '')) === mine) await rm(path, { force: true });
}

async function isAlive(lock: string): Promise<boolean> {
  const [pid = '', start = ''] = lock.trim().split(' ');
  if (!/^\d+$/.test(pid)) return false;
  try {
    process.kill(Number(pid), 0);
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM';
  }
  // After a reboot another process may have the number.
  return start === '0' || start === (await startOf(Number(pid)));
}

/** Start time of a process in clock ticks since boot, where the system tells; else 0. @see proc(5), field 22 */
async function startOf(pid: number): Promise<string> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '0';
}

function inUse(dataDir: string, lock: string): AgentError {
  const [pid = '?'] = lock.split(' ');
  return new AgentError('agent/identity-in-use', `another agent (process ${pid}) runs on ${dataDir}`, {
    where: dataDir,
    hint: 'stop it, or give this one a data folder and an identity of its own',
  });
}
