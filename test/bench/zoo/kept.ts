import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';

/** What a step said: its answer, or why it failed. */
export type Outcome<T> =
  | { readonly answer: T; readonly failed: null }
  | { readonly answer: null; readonly failed: string };

/** Nobody asked yet, or what was answered came from other code. */
export const NOT_TAKEN = 'not taken';

export interface Keep {
  readonly file: string;
  /** Of all that the answer comes from. */
  readonly key: string;
  /** Only what is kept counts. */
  readonly knownOnly?: boolean;
  /** Asks although an answer is kept. */
  readonly again?: boolean;
  /** A failure is an answer too, and not tried again. Default: it is. */
  readonly keepFailures?: boolean;
}

type Kept<T> = Outcome<T> & { readonly key: string };

/** Asks for what is not kept under this key. */
export async function once<T>(keep: Keep, ask: () => Promise<T>): Promise<Outcome<T>> {
  const { file, key } = keep;
  const known = await read<T>(file);
  if (known?.key === key && (keep.again !== true || keep.knownOnly === true)) return known;
  if (keep.knownOnly === true) return { answer: null, failed: NOT_TAKEN };
  const outcome = await attempt(ask);
  if (outcome.failed === null || keep.keepFailures === true) {
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, JSON.stringify({ key, ...outcome }));
  }
  return outcome;
}

async function attempt<T>(ask: () => Promise<T>): Promise<Outcome<T>> {
  try {
    return { answer: await ask(), failed: null };
  } catch (error) {
    return { answer: null, failed: reasonOf(error) };
  }
}

async function read<T>(file: string): Promise<Kept<T> | undefined> {
  const text = await readFile(file, 'utf8').catch(() => undefined);
  return text === undefined ? undefined : (JSON.parse(text) as Kept<T>);
}

export function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
