import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { link, mkdir, open, readdir, readFile, stat, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import {
  assemblePack,
  blobPath,
  createPack,
  generateKey,
  openPack,
  packBlobs,
  readBlob,
  signPack,
  unpackPack,
  verifyPack,
} from '../src/index.ts';
import { contents, golden, noise, scratch } from './sample.ts';
import { filesIn, sha256 } from './tamper.ts';

describe.each(['pack', 'labels.pack'])('written as %s', (name) => {
  test('what was put in comes out', async () => {
    const out = join(await scratch(), name);
    const made = await createPack(out, contents);
    const pack = await openPack(out);
    expect(pack.digest).toBe(made.digest);
    expect(pack.signedBy).toBeUndefined();
    expect(pack.config.files.map(({ path, role }) => [path, role])).toEqual([
      ['golden.safetensors', 'golden'],
      ['model.onnx', 'model'],
      ['plan.bin', 'flight-plan'],
      ['text/copy.txt', 'keys'],
      ['text/keys.txt', 'keys'],
    ]);
    expect(await pack.file('model.onnx')).toEqual(noise(3_000));
    expect(await pack.file('golden.safetensors')).toEqual(golden);
    await pack.close();
  });

  test('as one tar it has the bytes of the .pack', async () => {
    const dir = await scratch();
    const key = generateKey();
    await createPack(join(dir, name), contents, { key });
    await createPack(join(dir, 'same.pack'), contents, { key });
    const pack = await openPack(join(dir, name));
    const chunks: Uint8Array[] = [];
    for await (const chunk of pack.tar()) chunks.push(chunk);
    await pack.close();
    expect(Buffer.concat(chunks).equals(await readFile(join(dir, 'same.pack')))).toBe(true);
  });

  test('a signed pack names its signer and tells trusted from foreign keys', async () => {
    const out = join(await scratch(), name);
    const key = generateKey();
    const stranger = generateKey();
    await createPack(out, contents, { key });
    const pack = await openPack(out, { trusted: [stranger.publicKey, key.publicKey] });
    expect(pack.signedBy).toBe(key.publicKey.keyId);
    await pack.close();
    await expect(openPack(out, { trusted: [stranger.publicKey] })).rejects.toMatchObject({ code: 'pack/untrusted' });
    await expect(openPack(out, { trusted: [] })).rejects.toMatchObject({ code: 'pack/untrusted' });
  });

  test('signing later gives the bytes of signing at once', async () => {
    const dir = await scratch();
    const key = generateKey();
    const once = await createPack(join(dir, `once-${name}`), contents, { key });
    await createPack(join(dir, name), contents);
    await expect(openPack(join(dir, name), { trusted: [key.publicKey] })).rejects.toMatchObject({
      code: 'pack/unsigned',
    });
    const later = await signPack(join(dir, name), key);
    expect(later.digest).toBe(once.digest);
    expect((await readdir(dir)).toSorted()).toEqual([name, `once-${name}`].toSorted());
  });

  test('served in pieces and assembled elsewhere, it is the same pack', async () => {
    const dir = await scratch();
    const key = generateKey();
    await createPack(join(dir, name), contents, { key });
    const pack = await openPack(join(dir, name));
    const slot = join(dir, 'slot');
    await mkdir(join(slot, 'blobs/sha256'), { recursive: true });
    for (const { digest, bytes } of packBlobs(pack)) {
      const pieces = [];
      for (let at = 0; at < bytes; at += 1_000)
        pieces.push(await readBlob(pack, digest, at, Math.min(1_000, bytes - at)));
      await writeFile(blobPath(slot, digest), Buffer.concat(pieces));
    }
    const copy = await assemblePack(slot, pack.digest, { trusted: [key.publicKey] });
    expect(copy.manifestBytes).toEqual(pack.manifestBytes);
    await copy.close();
    await writeFile(`${slot}.index.json.part`, 'torn');
    await (await assemblePack(slot, pack.digest)).close(); // again, as after a crash
    await pack.close();
  });

  test('unpacked, it is its files and nothing else', async () => {
    const dir = await scratch();
    await createPack(join(dir, name), contents);
    await unpackPack(join(dir, name), join(dir, 'out'));
    const files = await filesIn(join(dir, 'out'));
    expect([...files.keys()]).toEqual([
      'golden.safetensors',
      'model.onnx',
      'plan.bin',
      'text/copy.txt',
      'text/keys.txt',
    ]);
    expect(new Uint8Array(files.get('model.onnx') ?? [])).toEqual(noise(3_000));
    await expect(unpackPack(join(dir, name), join(dir, 'out'))).rejects.toMatchObject({ code: 'pack/exists' });
  });

  test('the same inputs give the same bytes: whatever clock, umask, order or source', async () => {
    const dir = await scratch();
    const key = generateKey();
    const source = join(dir, 'source.onnx');
    await writeFile(source, noise(3_000));
    const fromDisk = contents.files.map((file) => (file.path === 'model.onnx' ? { ...file, source } : file));
    await createPack(join(dir, `a-${name}`), contents, { key });
    const umask = process.umask(0o077);
    vi.useFakeTimers({ now: 0, toFake: ['Date'] });
    const made = await createPack(
      join(dir, `b-${name}`),
      { ...contents, files: fromDisk.toReversed() },
      { key },
    ).finally(() => {
      process.umask(umask);
      vi.useRealTimers();
    });
    const bytes = async (path: string) => ((await stat(path)).isFile() ? readFile(path) : filesIn(path));
    expect(await bytes(join(dir, `b-${name}`))).toEqual(await bytes(join(dir, `a-${name}`)));
    if (name === 'pack') expect((await stat(join(dir, 'b-pack/index.json'))).mode & 0o777).toBe(0o644);
    expect((await stat(join(dir, `b-${name}`))).mode & 0o777).toBe(name === 'pack' ? 0o755 : 0o644);
    expect(made.digest).toMatch(/^sha256:/);
  });

  test('a pack is replaced, other things are not', async () => {
    const dir = await scratch();
    const out = join(dir, name);
    const first = await createPack(out, contents);
    const second = await createPack(out, { ...contents, name: 'second' });
    expect(second.digest).not.toBe(first.digest);
    expect((await verifyPack(out)).digest).toBe(second.digest);
    expect(await readdir(dir)).toEqual([name]);

    const folder = join(dir, `folder-${name}`);
    await mkdir(folder);
    await writeFile(join(folder, 'thesis.txt'), 'x');
    await expect(createPack(folder, contents)).rejects.toMatchObject({ code: 'pack/exists' });
    expect(await readFile(join(folder, 'thesis.txt'), 'utf8')).toBe('x');
  });

  test('#31 a link at the output is refused and its target left alone', async () => {
    const dir = await scratch();
    const victim = join(dir, 'victim');
    await writeFile(victim, 'x');
    await symlink(victim, join(dir, name));
    await expect(createPack(join(dir, name), contents)).rejects.toMatchObject({ code: 'pack/exists' });
    await link(victim, join(dir, `hard-${name}`));
    await expect(createPack(join(dir, `hard-${name}`), contents)).rejects.toMatchObject({ code: 'pack/exists' });
    expect(await readFile(victim, 'utf8')).toBe('x');
  });

  test('a full disk leaves the pack that was there, and nothing else', async (context) => {
    if (process.platform !== 'linux' || process.getuid?.() !== 0)
      return context.skip('a tmpfs can be mounted by root only');
    const dir = await scratch();
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', dir]);
    try {
      const first = await createPack(join(dir, name), contents);
      for (const bytes of [250_000, 1_000_000]) {
        const big = { ...contents, files: [{ path: 'm.onnx', role: 'model', source: noise(bytes) }], golden: null };
        await expect(createPack(join(dir, name), big)).rejects.toMatchObject({ code: 'pack/no-space' });
        expect(await readdir(dir)).toEqual([name]);
      }
      expect((await verifyPack(join(dir, name))).digest).toBe(first.digest);
    } finally {
      execFileSync('umount', [dir]);
    }
  });

  test('aborted, it leaves nothing', async () => {
    const dir = await scratch();
    const source = join(dir, 'big');
    await (await open(source, 'w')).close();
    await truncate(source, 64 << 20);
    const files = [{ path: 'm.onnx', role: 'model', source }];
    for (const ms of [0, 20, 60]) {
      const signal = AbortSignal.timeout(ms);
      const made = createPack(join(dir, name), { ...contents, files, golden: null }, { signal });
      await expect(made).rejects.toMatchObject({ name: expect.stringMatching(/Abort|Timeout/) });
      expect(await readdir(dir)).toEqual(['big']);
    }
  });
});

test('what a killed writer left is removed by the next', async () => {
  const dir = await scratch();
  const gone = spawn('true');
  await once(gone, 'exit');
  const mine = `.x.pack.${process.pid}-00000000.part`;
  for (const name of [`.x.pack.${gone.pid}-0123abcd.part`, mine, '.y.pack.1-0.part'])
    await writeFile(join(dir, name), 'x');
  await createPack(join(dir, 'x.pack'), contents);
  expect((await readdir(dir)).toSorted()).toEqual([mine, '.y.pack.1-0.part', 'x.pack']);
});

test('a source that is missing, or changes while it is read', async () => {
  const dir = await scratch();
  const source = join(dir, 'source');
  const withSource = { ...contents, files: [{ path: 'm.onnx', role: 'model', source }], golden: null };
  await expect(createPack(join(dir, 'x'), withSource)).rejects.toMatchObject({ code: 'pack/not-found', where: source });
  await writeFile(source, noise(1_000));
  const files = [
    { path: 'm.onnx', role: 'model', source },
    {
      path: 'n.bin',
      // Asked for when the first file has been hashed and is yet to be written.
      get role() {
        writeFileSync(source, noise(1_000, 2));
        return 'doc';
      },
      source: new Uint8Array(3),
    },
  ];
  await expect(createPack(join(dir, 'x'), { ...withSource, files })).rejects.toMatchObject({ code: 'pack/changed' });
  expect(await readdir(dir)).toEqual(['source']);
});

test.each([
  ['no model', { files: [] }],
  ['a path that leads outside', { files: [{ path: '../m.onnx', role: 'model', source: noise(1) }] }],
  ['a path twice', { files: [...contents.files, ...contents.files] }],
  ['a name of nothing', { name: '' }],
  ['a budget that is no number', { latencyBudgetUs: { '*': Number.NaN } }],
])('contents that break a rule: %s', async (_, change) => {
  const dir = await scratch();
  await expect(createPack(join(dir, 'x'), { ...contents, ...change })).rejects.toMatchObject({ code: 'pack/config' });
  expect(await readdir(dir)).toEqual([]);
});

test('a manifest that fetched blobs do not have, or that was asked for by a bad name', async () => {
  const dir = await scratch();
  await expect(assemblePack(dir, `sha256:${sha256('x')}`)).rejects.toMatchObject({ code: 'pack/missing-blob' });
  expect(() => blobPath(dir, 'sha256:../../x')).toThrow(expect.objectContaining({ code: 'pack/digest-invalid' }));
  const source = join(dir, 'source');
  const { digest } = await createPack(source, contents);
  const slot = join(dir, 'slot');
  await mkdir(join(slot, 'blobs/sha256'), { recursive: true });
  await writeFile(blobPath(slot, digest), await readFile(blobPath(source, digest)));
  await expect(assemblePack(slot, digest)).rejects.toMatchObject({ code: 'pack/missing-blob' });
  expect((await readdir(dir)).toSorted()).toEqual(['slot', 'source']);
});
