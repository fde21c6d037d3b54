import { readFile } from 'node:fs/promises';
import { CliError } from './errors.ts';

/** @param option that named the file @throws {CliError} `cli/file` for what is no JSON */
export async function readJson(option: string, path: string): Promise<unknown> {
  const text = await readFile(path, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    throw new CliError('cli/file', `the ${option} file ${path}: ${cause.code}`, { where: path });
  });
  try {
    return JSON.parse(text);
  } catch {
    throw new CliError('cli/file', `the ${option} file ${path} is not JSON`, { where: path });
  }
}
