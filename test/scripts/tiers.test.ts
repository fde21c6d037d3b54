import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { root, run } from '../tiers/run.ts';
import { runVitest } from '../tiers/vitest.ts';

// The sum at the end of scripts/test is only worth something if what is broken shows in it.
const folder = join(root, 'test', 'scripts', `planted-${process.pid}`);
const tier = { name: 'unit', is: 'planted', paths: [`${relative(root, folder)}/`], tools: [] } as const;

beforeAll(async () => {
  await mkdir(folder, { recursive: true });
  const head = `import { expect, test } from 'vitest';\n`;
  const plant = (name: string, body: string) => writeFile(join(folder, `${name}.test.ts`), head + body);
  await plant('passes', `test('a', () => expect(1).toBe(1));\ntest('b', (context) => context.skip('no such tool'));\n`);
  await plant('fails', `test('a', () => expect(1).toBe(2));\n`);
  await plant('breaks', `throw new Error('at import');\n`);
  await plant('dies', `test('a', () => new Promise(() => process.kill(process.pid, 'SIGKILL')));\n`);
  await plant('leaks', `test('a', () => void Promise.reject(new Error('unhandled')));\n`);
});
afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

test.each([
  ['passes', { passed: 1, failed: 0, skipped: 1 }],
  ['fails', { passed: 0, failed: 1, skipped: 0 }],
  ['breaks', { passed: 0, failed: 1, skipped: 0 }],
  ['leaks', { passed: 1, failed: 1, skipped: 0 }],
])('a file that %s', async (name, count) => {
  expect(await runVitest(tier, [`${tier.paths[0]}${name}`], false)).toEqual(count);
});

test('a worker that dies', async () => {
  expect((await runVitest(tier, [`${tier.paths[0]}dies`], false)).failed).toBeGreaterThan(0);
});

test('the last line and the exit code of scripts/test', async () => {
  const none = await run([process.execPath, join(root, 'scripts/run-ts.mjs'), 'test/tiers/main.ts', 'no/such/path']);
  expect(none.output.trim().split('\n').at(-1)).toBe('0 passed, 0 failed, 0 skipped');
  expect(none.status).toBe(1);
});
