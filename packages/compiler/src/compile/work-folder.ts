import { mkdtemp, rm } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { CompilerError } from '../errors.ts';

/** A folder beside the output, on the disk that the output must fit on anyway; gone when the work ends, however it ends. */
export async function inWorkFolder<T>(out: string, work: (folder: string) => Promise<T>): Promise<T> {
  const parent = dirname(resolve(out));
  const folder = await mkdtemp(join(parent, '.flotilla-compile-')).catch((cause: NodeJS.ErrnoException) => {
    throw new CompilerError('compiler/output', `cannot write into ${parent}: ${cause.code ?? cause.message}`, {
      where: parent,
      cause,
    });
  });
  try {
    return await work(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
