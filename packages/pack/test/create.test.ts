import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
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
} from '../src/index.ts';
import { contents, golden, noise, scratch } from './sample.ts';

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
    execFileSync('mkdir', ['-p', join(slot, 'blobs/sha256')]);
    for (const { digest, bytes } of packBlobs(pack)) {
      const pieces = [];
      for (let at = 0; at < bytes; at += 1_000)
        pieces.push(await readBlob(pack, digest, at, Math.min(1_000, bytes - at)));
      await writeFile(blobPath(slot, digest), Buffer.concat(pieces));
    }
    const copy = await assemblePack(slot, pack.digest, { trusted: [key.publicKey] });
    expect(copy.manifestBytes).toEqual(pack.manifestBytes);
    await copy.close();
    await (await assemblePack(slot, pack.digest)).close(); // again, as after a crash
    await pack.close();
  });
});
