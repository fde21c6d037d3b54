import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const main = fileURLToPath(new URL('../dist/main.js', import.meta.url));

interface Outcome {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

function flotilla(...args: readonly string[]): Promise<Outcome> {
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [main, ...args], (_error, stdout, stderr) =>
      resolve({ exitCode: child.exitCode ?? -1, stdout, stderr }),
    );
  });
}

test('an unknown command is a usage error in one line, without a stack', async () => {
  const { exitCode, stdout, stderr } = await flotilla('confg');
  expect(exitCode).toBe(2);
  expect(stdout).toBe('');
  expect(stderr).toBe('error cli/usage: unknown command; did you mean config?\n');
});

test('--json prints one object on stdout, of errors too', async () => {
  const good = await flotilla('config', '--json');
  expect(JSON.parse(good.stdout)).toHaveProperty('settings');
  const bad = await flotilla('config', '--nonsense', '--json');
  expect(JSON.parse(bad.stdout)).toMatchObject({ error: { code: 'cli/usage' } });
  expect(bad.exitCode).toBe(2);
});

test('--help exits 0 and shows examples', async () => {
  const { exitCode, stdout } = await flotilla('config', '--help');
  expect(exitCode).toBe(0);
  expect(stdout).toContain('Examples:');
});
