import { readdir, readFile, stat } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { join } from 'node:path';
import type { Board } from './board.ts';
import { detectHost } from './detect.ts';
import { BoardError } from './errors.ts';

/** Beside `dist` in the published package; at the root of a checkout. */
const FOLDERS = ['../devices/', '../../../devices/'].map((relative) =>
  fileURLToPath(new URL(relative, import.meta.url)),
);

/**
 * A board by its name (`raspberrypi-4b`), by a path to its YAML file, or this machine (`host`).
 * @throws {BoardError} `boards/unknown`, `boards/unreadable`, `boards/invalid`, `boards/unsupported-cpu`
 */
export async function loadBoard(nameOrFile: string): Promise<Board> {
  if (nameOrFile === 'host') return detectHost();
  if (/[/\\]|\.ya?ml$/.test(nameOrFile)) return readBoard(nameOrFile);
  const names = await boardNames();
  if (names.includes(nameOrFile)) return readBoard(join(await devicesFolder(), `${nameOrFile}.yaml`));
  throw new BoardError('boards/unknown', `no board is called ${JSON.stringify(nameOrFile.slice(0, 80))}`, {
    where: nameOrFile,
    hint: `known: host, ${names.join(', ')}; or give a path to a .yaml file`,
  });
}

/** Every board that ships with this package, by name. */
export async function listBoards(): Promise<Board[]> {
  const folder = await devicesFolder();
  return Promise.all((await boardNames()).map((name) => readBoard(join(folder, `${name}.yaml`))));
}

async function readBoard(path: string): Promise<Board> {
  const text = await readRegularFile(path).catch((cause: unknown) => {
    if (cause instanceof BoardError) throw cause;
    const reason = cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause);
    throw new BoardError('boards/unreadable', `${path}: ${reason}`, { where: path, cause });
  });
  const { parseBoard } = await import('./parse.ts'); // most processes read no board
  return parseBoard(text, path);
}

async function readRegularFile(path: string): Promise<string> {
  const facts = await stat(path); // before opening: a FIFO would hang
  if (!facts.isFile()) throw new BoardError('boards/unreadable', `${path}: not a regular file`, { where: path });
  if (facts.size > 1 << 20) throw new BoardError('boards/invalid', `${path}: larger than 1 MiB`, { where: path });
  return readFile(path, 'utf8');
}

async function boardNames(): Promise<string[]> {
  const files = await readdir(await devicesFolder());
  const names = files.filter((file) => file.endsWith('.yaml')).map((file) => file.slice(0, -'.yaml'.length));
  return names.toSorted();
}

async function devicesFolder(): Promise<string> {
  for (const folder of FOLDERS) {
    if (
      await stat(folder).then(
        (facts) => facts.isDirectory(),
        () => false,
      )
    )
      return folder;
  }
  throw new BoardError('boards/unreadable', 'the folder devices/ is missing', { where: FOLDERS[0] });
}
