import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../..', import.meta.url));

export type Count = { passed: number; failed: number; skipped: number };

export function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

export interface Ran {
  /** Exit code; null when a signal or the timeout ended it, or it could not be started. */
  readonly status: number | null;
  readonly output: string;
}

/** Runs a command in the checkout's root. `show` passes its output through as well. */
export async function run(
  command: readonly string[],
  options: { readonly timeoutMs?: number; readonly show?: boolean; readonly env?: NodeJS.ProcessEnv } = {},
): Promise<Ran> {
  const [program = '', ...rest] = command;
  return new Promise((resolve) => {
    const child = spawn(program, rest, {
      cwd: root,
      env: options.env ?? process.env,
      stdio: ['ignore', options.show === true ? 'inherit' : 'pipe', options.show === true ? 'inherit' : 'pipe'],
      timeout: options.timeoutMs,
      killSignal: 'SIGKILL',
    });
    let output = '';
    child.stdout?.on('data', (text: Buffer) => (output += text.toString()));
    child.stderr?.on('data', (text: Buffer) => (output += text.toString()));
    child.on('error', (error) => resolve({ status: null, output: error.message }));
    child.on('close', (status) => resolve({ status, output }));
  });
}
