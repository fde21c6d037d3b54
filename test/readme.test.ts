import { execFile } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { transform } from 'esbuild';
import { expect, test } from 'vitest';
import { root } from './tiers/run.ts';

/** The first ```ts block. */
function firstExample(markdown: string): string | undefined {
  return /^```ts\n([\s\S]*?)^```$/m.exec(markdown)?.[1];
}

/** Runs an example as a reader would: in a Node of its own, on the built packages, from the checkout's root. */
async function runExample(source: string, folder: string): Promise<string> {
  const file = join(folder, `readme-example-${process.pid}.mjs`);
  const { code } = await transform(source, { loader: 'ts', format: 'esm', target: 'node20' });
  await writeFile(file, code);
  try {
    const { stdout } = await promisify(execFile)(process.execPath, [file], { cwd: root, timeout: 120_000 });
    return stdout;
  } finally {
    await rm(file, { force: true });
  }
}

const pages = [
  { page: 'README.md', folder: join(root, 'test') },
  ...readdirSync(join(root, 'packages')).map((room) => {
    const own = join(root, 'packages', room, 'test');
    return { page: `packages/${room}/README.md`, folder: existsSync(own) ? own : join(root, 'test') };
  }),
];

test.each(pages)('the example in $page runs', { timeout: 130_000 }, async ({ page, folder }) => {
  const source = firstExample(await readFile(join(root, page), 'utf8'));
  expect(source, 'a ```ts block').toBeDefined();
  await runExample(source ?? '', folder);
});

test('an example that throws is noticed', async () => {
  const source = firstExample('# x\n\n```ts\nconst n: number = 1;\nif (n === 1) throw new Error("seen");\n```\n') ?? '';
  await expect(runExample(source, join(root, 'test'))).rejects.toThrow('seen');
});
