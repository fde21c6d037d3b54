import { readFile } from 'node:fs/promises';
import { CliError } from './errors.ts';

/** @throws {CliError} `cli/file` for what is no JSON */
export async function readSchema(path: string): Promise<unknown> {
  const text = await readFile(path, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    throw new CliError('cli/file', `--schema ${path}: ${cause.code}`, { where: path });
  });
  try {
    return JSON.parse(text);
  } catch {
    throw new CliError('cli/file', `--schema ${path} is not JSON`, { where: path });
  }
}
