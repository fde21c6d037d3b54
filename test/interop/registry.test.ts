import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createPack, generateKey, openPack, type PackContents } from '@flotilla/pack';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { freePort } from '../../packages/controller/test/support/controller-process.ts';
import { root } from '../tiers/run.ts';

const binary = '/usr/bin/docker-registry';
const isHere = existsSync(binary);
if (!isHere) console.warn('skipped: docker-registry is not installed, so pack push and pull met no registry of others');

const key = generateKey();
const contents: PackContents = {
  name: 'labels',
  task: 'tensor',
  weights: 'int8',
  parameters: 2_700_000,
  sourceBytes: 80_000_000,
  golden: null,
  latencyBudgetUs: {},
  annotations: {},
  files: [
    { path: 'model.onnx', role: 'model', source: new Uint8Array(20 << 20).map((_, at) => (at * 7919) >>> 9) }, // in chunks
    { path: 'keys.txt', role: 'keys', source: new TextEncoder().encode('a\nb\n') },
    { path: 'empty.bin', role: 'flight-plan', source: new Uint8Array() },
  ],
};

let dir: string;
let host: string;
let server: ChildProcess | undefined;

beforeAll(async () => {
  if (!isHere) return;
  dir = await mkdtemp(join(tmpdir(), 'registry-'));
  await mkdir(join(dir, 'storage'));
  host = `127.0.0.1:${await freePort()}`;
  const storage = `storage:\n  filesystem:\n    rootdirectory: ${join(dir, 'storage')}\n`;
  await writeFile(join(dir, 'config.yml'), `version: 0.1\nlog:\n  level: error\n${storage}http:\n  addr: ${host}\n`);
  server = spawn(binary, ['serve', join(dir, 'config.yml')], { stdio: 'ignore' });
});
afterAll(() => void server?.kill());

function json(...args: readonly string[]): { readonly [key: string]: unknown } {
  const cli = join(root, 'packages/cli/dist/main.js');
  const env = { PATH: process.env['PATH'], HOME: dir };
  return JSON.parse(execFileSync(process.execPath, [cli, ...args, '--json'], { encoding: 'utf8', env }));
}

describe.skipIf(!isHere)('Debian’s docker-registry', () => {
  test('pack push and pack pull: the same bytes come back, and nothing is sent twice', async () => {
    const isUp = () =>
      fetch(`http://${host}/v2/`).then(
        ({ ok }) => ok,
        () => false,
      );
    await expect.poll(isUp, { timeout: 30_000 }).toBe(true);
    const pack = join(dir, 'labels.pack');
    const { digest } = await createPack(pack, contents, { key });
    const reference = `${host}/models/labels:1.0.0`;
    expect(json('pack', 'push', pack, reference)).toMatchObject({ reference, digest });
    expect(json('pack', 'push', pack, `${host}/models/labels:latest`)).toMatchObject({ digest, uploadedBytes: 0 });
    const back = join(dir, 'back.pack');
    expect(json('pack', 'pull', `${reference}@${digest}`, '-o', back)).toMatchObject({ path: back, digest });
    expect((await readFile(back)).equals(await readFile(pack))).toBe(true);
    await (await openPack(back, { trusted: [key.publicKey] })).close();
  });
});
