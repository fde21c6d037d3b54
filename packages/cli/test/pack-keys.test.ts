import { mkdtemp, readdir, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createPack } from '@flotilla/pack';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import yargs, { type CommandModule } from 'yargs';
import { keys } from '../src/commands/keys.ts';
import { pack } from '../src/commands/pack.ts';
import type { Globals } from '../src/output.ts';

let out: string;
beforeEach(() => {
  out = '';
  vi.spyOn(process.stdout, 'write').mockImplementation((chunk) => {
    out += String(chunk);
    return true;
  });
});
afterEach(() => {
  vi.restoreAllMocks();
});

/** Runs one command as the CLI does, and gives what it printed. */
async function run(...args: readonly string[]): Promise<string> {
  out = '';
  await yargs([...args])
    .options({
      json: { type: 'boolean', default: false },
      quiet: { type: 'boolean', default: false },
      verbose: { type: 'boolean', default: false },
    })
    .command(keys as CommandModule<Globals, never>)
    .command(pack as CommandModule<Globals, never>)
    .strict()
    .exitProcess(false)
    .fail((message, error) => {
      throw error ?? new Error(message);
    })
    .parseAsync();
  return out;
}

async function samplePack(dir: string): Promise<string> {
  const path = join(dir, 'labels.pack');
  await createPack(path, {
    name: 'labels',
    task: 'tensor',
    weights: 'int8',
    parameters: 2_700_000,
    sourceBytes: 10_800_000,
    golden: null,
    latencyBudgetUs: { '*': 25_000 },
    annotations: { licence: 'Apache-2.0' },
    files: [{ path: 'model.onnx', role: 'model', source: Uint8Array.of(1, 2, 3) }],
  });
  return path;
}

test('a pack is listed, signed with a new key, verified against it, and unpacked', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'cli-pack-'));
  const path = await samplePack(dir);
  const listed = await run('pack', 'ls', path);
  expect(listed).toMatch(/model\.onnx +model +3 B/);
  expect(listed).toMatch(/signed by +nobody/);

  const { privateFile, publicFile, keyId } = JSON.parse(await run('keys', 'init', join(dir, 'keys'), '--json'));
  for (const [file, kind] of [
    [privateFile, 'private'],
    [publicFile, 'public'],
  ])
    expect(JSON.parse(await run('keys', 'show', file, '--json'))).toEqual({
      keyId,
      kind,
      publicKey: await readFile(publicFile, 'utf8'),
    });

  await expect(run('pack', 'verify', path, '--trust', publicFile)).rejects.toMatchObject({ code: 'pack/unsigned' });
  const signed = JSON.parse(await run('pack', 'sign', path, '--key', privateFile, '--json'));
  expect(JSON.parse(await run('pack', 'verify', path, '--key', publicFile, '--json'))).toMatchObject({
    digest: signed.digest,
    files: 1,
    signedBy: keyId,
    trusted: true,
  });
  expect(await run('pack', 'verify', path)).toContain('no key given to judge by');

  await run('pack', 'unpack', path, '-o', join(dir, 'out'));
  expect(await readdir(join(dir, 'out'))).toEqual(['model.onnx']);
});

test('keys show names a file that is no key, and refuses a secret that others may read', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'cli-keys-'));
  await writeFile(join(dir, 'text'), 'hello');
  await expect(run('keys', 'show', join(dir, 'text'))).rejects.toMatchObject({ code: 'pack/key-invalid' });
  await run('keys', 'init', dir);
  await writeFile(join(dir, 'copy'), await readFile(join(dir, 'flotilla.key')), { mode: 0o644 });
  await expect(run('keys', 'show', join(dir, 'copy'))).rejects.toMatchObject({ code: 'pack/key-mode' });
  await expect(run('keys', 'init', dir)).rejects.toMatchObject({ code: 'pack/key-exists' });
});

test('a key is rotated: the folder holds the new pair, the old one and its word', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'cli-rotate-'));
  const { keyId } = JSON.parse(await run('keys', 'init', dir, '--json')) as { keyId: string };
  const made = JSON.parse(await run('keys', 'rotate', dir, '--json')) as { [key: string]: string };
  expect(made).toMatchObject({ replaces: keyId, privateFile: join(dir, 'flotilla.key') });
  expect(JSON.parse(await run('keys', 'show', join(dir, 'flotilla.pub'), '--json'))).toMatchObject({
    keyId: made['keyId'],
  });
  expect(await run('keys', 'show', join(made['retiredDir'] ?? '', 'flotilla.pub'))).toContain(keyId);
  expect((await readdir(dir)).filter((name) => name.endsWith('.succession'))).toHaveLength(1);
});
