import { createHash, randomUUID } from 'node:crypto';
import { mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Board } from '@flotilla/boards';
import { LOWERING_VERSION } from '@flotilla/lowering';
import type { Pack } from '@flotilla/pack';
import { RuntimeError } from './errors.ts';
import { describeFile } from './file-digest.ts';
import { LOWERED_FACTS, LOWERED_MODEL, type LoweredFacts } from './lower-file.ts';

export interface LoweredModel extends Pick<LoweredFacts, 'session' | 'choices' | 'weightsBytes'> {
  readonly path: string;
  /** False where the cache had it. */
  readonly fresh: boolean;
}

/** Lowers `modelPath` into `folder`: here, or in a child process. */
export type Lower = (modelPath: string, folder: string) => Promise<void>;

/**
 * The pack's model as lowered for a board, from the cache or made now. A cache entry is a folder named after the pack's
 * digest, the board's CPU and the version of lowering; it appears whole, by a rename, and its files are checked against
 * the digests taken when it was made.
 * @throws {RuntimeError} `runtime/cache` if it cannot be written; else what `lower` and the pack throw
 */
export async function loweredModel(pack: Pack, board: Board, cacheDir: string, lower: Lower): Promise<LoweredModel> {
  const folder = join(cacheDir, cacheKey(pack, board));
  const known = await readEntry(folder);
  if (known) return { ...known, path: join(folder, LOWERED_MODEL), fresh: false };
  const part = `${folder}.${randomUUID()}.part`;
  try {
    await onDisk(part, () => mkdir(part, { recursive: true }));
    await lower(await extractModel(pack, join(part, 'portable')), part);
    await onDisk(part, () => settle(part, folder));
  } finally {
    await rm(part, { recursive: true, force: true }).catch(() => {}); // what went wrong is told already
  }
  const made = await readEntry(folder);
  if (!made)
    throw new RuntimeError('runtime/cache', `${folder}: what was written reads back otherwise`, { where: folder });
  return { ...made, path: join(folder, LOWERED_MODEL), fresh: true };
}

function cacheKey(pack: Pack, { boardClass, cpu }: Board): string {
  const parts = [pack.digest, boardClass, cpu.features.toSorted(), LOWERING_VERSION];
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 32);
}

async function readEntry(folder: string): Promise<LoweredFacts | undefined> {
  try {
    const facts: LoweredFacts = JSON.parse(await readFile(join(folder, LOWERED_FACTS), 'utf8'));
    for (const file of facts.files) {
      const found = await describeFile(folder, file.name);
      if (found.sha256 !== file.sha256) return undefined;
    }
    return facts;
  } catch {
    return undefined; // missing or damaged: it is made anew
  }
}

async function extractModel(pack: Pack, folder: string): Promise<string> {
  const model = pack.config.files.find((file) => file.role === 'model');
  if (!model) throw new RuntimeError('runtime/pack', `${pack.path} holds no model`, { where: pack.path });
  for (const { path, role } of pack.config.files)
    if (role === 'model' || role === 'model-data') {
      const to = join(folder, path);
      await onDisk(to, () => mkdir(dirname(to), { recursive: true }));
      await pack.extract(path, to);
    }
  return join(folder, model.path);
}

/** Everything in the part is flushed before its new name is, and the name before anyone hears of it. */
async function settle(part: string, folder: string): Promise<void> {
  await rm(join(part, 'portable'), { recursive: true, force: true });
  const facts: LoweredFacts = JSON.parse(await readFile(join(part, LOWERED_FACTS), 'utf8'));
  for (const { name } of facts.files) await flush(join(part, name));
  await flush(part);
  await rm(folder, { recursive: true, force: true }); // a damaged entry
  await rename(part, folder);
  await flush(dirname(folder));
}

async function flush(path: string): Promise<void> {
  const file = await open(path, 'r');
  try {
    await file.sync();
  } catch (error) {
    if (process.platform !== 'win32') throw error; // folders cannot be synced there
  } finally {
    await file.close();
  }
}

async function onDisk<T>(where: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    const reason = cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause);
    throw new RuntimeError('runtime/cache', `${where}: ${reason}`, { where, cause });
  }
}
