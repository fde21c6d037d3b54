import { execFileSync } from 'node:child_process';
import { cpSync, readdirSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { root, run } from '../tiers/run.ts';

let scratch = '';
beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'setup-'));
});
afterAll(async () => {
  await rm(scratch, { recursive: true, force: true });
});

/** What a fresh clone has that setting up looks at, without packages. */
function freshCheckout(folder: string): string {
  for (const name of ['package.json', 'pnpm-lock.yaml', 'pnpm-workspace.yaml', 'tsconfig.json', 'scripts'])
    cpSync(join(root, name), join(folder, name), { recursive: true });
  for (const room of readdirSync(join(root, 'packages')))
    cpSync(join(root, 'packages', room, 'package.json'), join(folder, 'packages', room, 'package.json'));
  return folder;
}

/** A PATH with a shell's tools and these programs, no others. */
async function path(name: string, programs: { readonly [program: string]: string }): Promise<string> {
  const folder = join(scratch, name);
  await mkdir(folder);
  for (const tool of ['sh', 'dirname', 'find', 'head'])
    await symlink(
      execFileSync('/bin/sh', ['-c', `command -v ${tool}`], { encoding: 'utf8' }).trim(),
      join(folder, tool),
    );
  for (const [program, script] of Object.entries(programs)) {
    await writeFile(join(folder, program), `#!/bin/sh\n${script}\n`);
    await chmod(join(folder, program), 0o755);
  }
  return folder;
}

const oneLine = (output: string) =>
  output
    .trim()
    .split('\n')
    .filter((line) => !line.startsWith('flotilla: '));

describe('what is missing is said in one line, exit 5', () => {
  test('no Node', async () => {
    const env = { PATH: await path('no-node', {}) };
    const { status, output } = await run([join(root, 'scripts/flotilla')], { env });
    expect({ status, lines: oneLine(output) }).toEqual({
      status: 5,
      lines: ['error setup/node: Node is not on PATH; install Node 20.19 or newer (nodejs.org)'],
    });
  });

  test.each(['v18.20.8', 'v20.18.3'])('Node %s', async (version) => {
    const env = { PATH: await path(version, { node: `echo ${version}` }) };
    const { status, output } = await run([join(root, 'scripts/demo')], { env });
    expect({ status, lines: oneLine(output) }).toEqual({
      status: 5,
      lines: [`error setup/node: Node ${version} is too old; install Node 20.19 or newer (nodejs.org)`],
    });
  });

  test('no npm', async () => {
    const checkout = freshCheckout(join(scratch, 'no-npm-checkout'));
    const env = { PATH: await path('no-npm', { node: `exec ${process.execPath} "$@"` }) };
    const { status, output } = await run([join(checkout, 'scripts/flotilla')], { env });
    expect({ status, lines: oneLine(output) }).toEqual({
      status: 5,
      lines: [expect.stringMatching(/^error setup\/npm: neither pnpm .* nor npx is on PATH/)],
    });
  });

  test('no network', async () => {
    const checkout = freshCheckout(join(scratch, 'no-network-checkout'));
    const env = {
      PATH: `${dirname(process.execPath)}:${process.env['PATH']}`,
      HOME: '',
      npm_config_registry: 'http://127.0.0.1:9/',
    };
    const { status, output } = await run([join(checkout, 'scripts/flotilla')], { env });
    expect({ status, lines: oneLine(output) }).toEqual({
      status: 5,
      lines: [expect.stringMatching(/^error setup\/network: /)],
    });
  });

  test('a full disk', async (context) => {
    const mount = join(scratch, 'tiny');
    await mkdir(mount);
    if ((await run(['mount', '-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', mount])).status !== 0)
      context.skip('mounting a small tmpfs needs root');
    try {
      const checkout = freshCheckout(mount);
      await run(['sh', '-c', `cat /dev/zero > ${join(mount, 'fill')}`]);
      const { status, output } = await run([join(checkout, 'scripts/flotilla')]);
      expect({ status, lines: oneLine(output) }).toEqual({
        status: 5,
        lines: [expect.stringMatching(/^error setup\/disk-full: the disk is full/)],
      });
    } finally {
      await run(['umount', mount]);
    }
  });
});

test('nothing to do: silent and without a build, from any folder', async () => {
  await run([join(root, 'scripts/setup')]);
  const built = async () => (await stat(join(root, 'node_modules/.flotilla-stamp'))).mtimeMs;
  const before = await built();
  const { status, output } = await run(['sh', '-c', `cd / && ${join(root, 'scripts/setup')}`]);
  expect({ status, output }).toEqual({ status: 0, output: '' });
  expect(await built()).toBe(before);
});

test('two at once: one builds, the other waits, both succeed', async () => {
  const stamp = join(root, 'node_modules/.flotilla-stamp');
  await rm(stamp, { force: true });
  const both = await Promise.all([run([join(root, 'scripts/setup')]), run([join(root, 'scripts/setup')])]);
  expect(both.map(({ status }) => status)).toEqual([0, 0]);
  expect(await readFile(stamp, 'utf8')).toBe('');
});
