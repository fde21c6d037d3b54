import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { root } from '../../tiers/run.ts';
import { type Keep, type Outcome, once } from './kept.ts';
import type { StepOptions } from './row.ts';

const MINUTES = 10;

/** One step with one model: what it does, the name of the file that keeps its answer, and under which key. */
export interface Step extends Pick<Keep, 'key' | 'again' | 'keepFailures'> {
  readonly model: string;
  readonly step: 'fp32' | 'compile' | 'judge' | 'speed';
  /** Without `.json`. */
  readonly name: string;
}

/** Takes the steps of `step-main.ts`, each once. */
export class Steps {
  private readonly folder: string;
  private readonly bundle: string;
  private readonly isTaken: (model: string) => boolean;

  /** @param isTaken models of which more is asked than what is kept */
  constructor(folder: string, bundle: string, isTaken: (model: string) => boolean) {
    this.folder = folder;
    this.bundle = bundle;
    this.isTaken = isTaken;
  }

  async take<T>({ model, step, name, ...keep }: Step, options: StepOptions): Promise<Outcome<T>> {
    const folder = join(this.folder, model);
    const where = { ...keep, file: join(folder, `${name}.json`), knownOnly: !this.isTaken(model) };
    return once<T>(where, async () => {
      const words = ['--enable-source-maps', this.bundle, model, folder, step, JSON.stringify(options)];
      return JSON.parse(lastLine(await output(process.execPath, words))) as T;
    });
  }
}

/** `step-main.ts` as a file that Node runs: bundled once, not once a step. */
export async function bundleSteps(): Promise<string> {
  const script = ['scripts/run-ts.mjs', '--bundle', 'test/bench/zoo/step-main.ts'];
  return (await output(process.execPath, script)).trim();
}

export function lastLine(printed: string): string {
  return printed.trim().split('\n').at(-1) ?? '';
}

/** What a program printed. @throws with the last of what it complained of */
export async function output(
  program: string,
  args: readonly string[],
  { minutes = MINUTES, cwd = root }: { readonly minutes?: number; readonly cwd?: string } = {},
): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd, stdio: ['ignore', 'pipe', 'pipe'], timeout: minutes * 60_000 });
    let [printed, complaints] = ['', ''];
    child.stdout.on('data', (text: Buffer) => (printed += text.toString()));
    child.stderr.on('data', (text: Buffer) => (complaints = (complaints + text.toString()).slice(-20_000)));
    child.on('error', reject);
    child.on('close', (code, signal) => {
      if (code === 0) resolve(printed);
      else if (child.killed) reject(new Error(`took more than ${minutes} minutes`));
      else reject(new Error(signal === null ? reasonIn(complaints) : `ended by ${signal}`));
    });
  });
}

/** The line that says what went wrong: an error's first, else the last. */
function reasonIn(complaints: string): string {
  const lines = complaints.split('\n').filter((line) => line.trim() !== '');
  const error = lines.findLast((line) => /^(?:\w|\.)*(?:Error|Exception)\b.*:/.test(line));
  // As one cell of a table.
  return (error ?? lines.at(-1) ?? 'no reason given').trim().replaceAll('|', '/').slice(0, 200);
}
