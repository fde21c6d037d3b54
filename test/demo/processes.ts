import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(
  new URL(import.meta.resolve('@flotilla/cli')).href.replace(/index\.[jt]s$/, 'main.js').replace('/src/', '/dist/'),
);

/** A `flotilla … --json` that stays: its first JSON line, and how to end it. */
export interface Running {
  readonly ready: { readonly [key: string]: unknown };
  stop(): Promise<void>;
}

/** Every process that the demo starts, so that all of them end with it. */
export class Processes {
  readonly #children = new Set<ChildProcess>();

  /** Starts the CLI and waits for its first line. @throws with what it said on stderr if it ends before that */
  async start(args: readonly string[]): Promise<Running> {
    const child = spawn(process.execPath, [MAIN, ...args, '--json'], { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#children.add(child);
    child.once('exit', () => this.#children.delete(child));
    let complaints = '';
    child.stderr.on('data', (chunk: Buffer) => {
      complaints = (complaints + chunk.toString()).slice(-4000);
    });
    const ready = await firstLine(child, () => `flotilla ${args.join(' ')}: ${complaints.trim()}`);
    return { ready: JSON.parse(ready), stop: () => end(child) };
  }

  /** Runs the CLI to its end. @throws with what it said on stderr unless it exits 0 */
  async run(args: readonly string[]): Promise<void> {
    const running = await this.start(args);
    await running.stop();
  }

  async stopAll(): Promise<void> {
    await Promise.all([...this.#children].map(end));
  }
}

function firstLine(child: ChildProcess, describe: () => string): Promise<string> {
  return new Promise((resolve, reject) => {
    if (child.stdout === null) throw new Error('no stdout');
    const lines = createInterface({ input: child.stdout });
    lines.once('line', resolve);
    lines.on('line', () => {}); // keeps the pipe from filling
    child.once('exit', (code) => reject(new Error(`${describe()} (exit ${code})`)));
  });
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), 5000);
  await gone;
  clearTimeout(timer);
}
