import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { root } from '../tiers/run.ts';

const CLI = join(root, 'packages/cli/dist/main.js');
const RUN_TS = join(root, 'scripts/run-ts.mjs');

/** Megabytes: a compilation makes and drops many arrays, and takes a tenth less time with room for them (V8's default: 16). */
const ROOM_FOR_YOUNG = ['--max-semi-space-size=64'];

/** Every process that the demo starts, so that all of them end with it. */
export class Processes {
  readonly #children = new Set<ChildProcess>();

  /** Starts a command of the CLI that stays: the JSON of its first line. */
  async start(args: readonly string[]): Promise<unknown> {
    const { firstLine } = this.#spawn([CLI, ...args, '--json']);
    return JSON.parse(await firstLine);
  }

  /** Runs a command of the CLI to its end. */
  async run(args: readonly string[]): Promise<void> {
    await this.#spawn([CLI, ...args, '--json']).succeeded;
  }

  /** Runs a TypeScript file of this repository to its end: its first line. */
  async script(file: string, args: readonly string[]): Promise<string> {
    const { firstLine, succeeded } = this.#spawn([RUN_TS, file, ...args], ROOM_FOR_YOUNG);
    await succeeded;
    return firstLine;
  }

  async stopAll(): Promise<void> {
    await Promise.all([...this.#children].map(end));
  }

  /** Both promises reject with what the process said on stderr if it ends otherwise than with 0. */
  #spawn(
    args: readonly string[],
    options: readonly string[] = [],
  ): { readonly firstLine: Promise<string>; readonly succeeded: Promise<void> } {
    const child = spawn(process.execPath, [...options, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#children.add(child);
    let complaints = '';
    child.stderr.on('data', (chunk: Buffer) => {
      complaints = (complaints + chunk.toString()).slice(-4000);
    });
    const succeeded = new Promise<void>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (code) => {
        this.#children.delete(child);
        if (code === 0) resolve();
        else reject(new Error(`${args.slice(1, 3).join(' ')} ended with ${code}: ${complaints.trim()}`));
      });
    });
    const firstLine = new Promise<string>((resolve, reject) => {
      const lines = createInterface({ input: child.stdout });
      lines.once('line', resolve);
      lines.on('line', () => {}); // keeps the pipe from filling
      succeeded.then(() => reject(new Error(`${args[1]} printed nothing`)), reject);
    });
    firstLine.catch(() => {}); // whoever waits for it hears of it
    succeeded.catch(() => {});
    return { firstLine, succeeded };
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), 5000);
  await gone;
  clearTimeout(timer);
}
