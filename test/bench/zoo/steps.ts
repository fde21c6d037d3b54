import { spawn } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { root } from '../../tiers/run.ts';
import type { StepOptions } from './row.ts';

const MINUTES = 10;

/** What a step said: its answer, or why it failed. */
export type Outcome<T> =
  | { readonly answer: T; readonly failed: null }
  | { readonly answer: null; readonly failed: string };

/** Takes the steps of `step-main.ts`, each once: what was answered before is read from the folder. */
export class Steps {
  readonly folder: string;
  private readonly bundle: string;

  constructor(folder: string, bundle: string) {
    this.folder = folder;
    this.bundle = bundle;
  }

  /** @param name of the file that keeps the answer, without `.json` */
  async take<T>(model: string, step: string, name: string, options: StepOptions): Promise<Outcome<T>> {
    const folder = join(this.folder, model);
    return once<T>(join(folder, `${name}.json`), () =>
      script([this.bundle, model, folder, step, JSON.stringify(options)]),
    );
  }
}

/** Runs what has no answer yet; only answers stay, failures are tried again. */
export async function once<T>(file: string, ask: () => Promise<string>): Promise<Outcome<T>> {
  const known = await readFile(file, 'utf8').catch(() => undefined);
  if (known !== undefined) return { answer: JSON.parse(known) as T, failed: null };
  try {
    const answer = await ask();
    const parsed = JSON.parse(answer) as T;
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, answer);
    return { answer: parsed, failed: null };
  } catch (error) {
    return { answer: null, failed: reasonOf(error) };
  }
}

/** `step-main.ts` as a file that Node runs: bundled once, not once a step. */
export async function bundleSteps(): Promise<string> {
  const script = ['scripts/run-ts.mjs', '--bundle', 'test/bench/zoo/step-main.ts'];
  return (await output(process.execPath, script)).trim();
}

async function script(args: readonly string[]): Promise<string> {
  return (await output(process.execPath, ['--enable-source-maps', ...args])).trim().split('\n').at(-1) ?? '';
}

/** What a program printed. @throws with the last of what it complained of */
export async function output(program: string, args: readonly string[], env = process.env): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      cwd: root,
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: MINUTES * 60_000,
    });
    let [printed, complaints] = ['', ''];
    child.stdout.on('data', (text: Buffer) => (printed += text.toString()));
    child.stderr.on('data', (text: Buffer) => (complaints = (complaints + text.toString()).slice(-20_000)));
    child.on('error', reject);
    child.on('close', (code, signal) => {
      if (code === 0) resolve(printed);
      else reject(new Error(signal === null ? reasonIn(complaints) : `ended by ${signal}`));
    });
  });
}

export function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The line that says what went wrong: an error's first, else the last. */
function reasonIn(complaints: string): string {
  const lines = complaints.split('\n').filter((line) => line.trim() !== '');
  const error = lines.findLast((line) => /^(?:\w|\.)*(?:Error|Exception)\b.*:/.test(line));
  return (error ?? lines.at(-1) ?? 'no reason given').trim().slice(0, 300);
}
