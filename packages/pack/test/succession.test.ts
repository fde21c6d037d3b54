import { chmod, mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import {
  generateKey,
  parseSuccession,
  readPrivateKey,
  readPublicKey,
  readSuccessions,
  rotateKey,
  signSuccession,
  successorsOf,
  writeKeyPair,
} from '../src/index.ts';
import { scratch } from './sample.ts';

test('a rotated key is another one, the old one vouches for it, and is kept', async () => {
  const dir = await scratch();
  await writeKeyPair(dir);
  const first = await readPrivateKey(join(dir, 'flotilla.key'));
  const made = await rotateKey(dir);
  const again = await rotateKey(dir);
  expect([made.replaces, again.replaces]).toEqual([first.publicKey.keyId, made.keyId]);
  expect((await readPrivateKey(again.privateFile)).publicKey.keyId).toBe(again.keyId);
  expect((await readPublicKey(again.publicFile)).keyId).toBe(again.keyId);
  expect((await stat(again.privateFile)).mode & 0o777).toBe(0o600);
  expect((await readPrivateKey(join(made.retiredDir, 'flotilla.key'))).publicKey.keyId).toBe(first.publicKey.keyId);
  const chain = successorsOf(first.publicKey, await readSuccessions(dir));
  expect(chain.map(({ keyId }) => keyId)).toEqual([made.keyId, again.keyId]);
  expect((await readdir(dir)).filter((name) => name.startsWith('.'))).toEqual([]);
});

test('a rotation that was cut off is done again', async () => {
  const dir = await scratch();
  await writeKeyPair(dir);
  const old = await readFile(join(dir, 'flotilla.key'));
  const lost = await rotateKey(dir);
  await writeFile(join(dir, 'flotilla.key'), old); // killed before the new key took its place …
  await mkdir(join(dir, '.rotating'));
  await writeFile(join(dir, '.rotating/flotilla.key'), 'half');
  const made = await rotateKey(dir);
  expect(made.replaces).toBe(lost.replaces);
  expect((await readPublicKey(made.publicFile)).keyId).toBe(made.keyId);
});

test('without a key, or with one that others may read, nothing is rotated', async () => {
  const dir = await scratch();
  await expect(rotateKey(dir)).rejects.toMatchObject({ code: 'pack/not-found' });
  await writeKeyPair(dir);
  await chmod(join(dir, 'flotilla.key'), 0o644);
  await expect(rotateKey(dir)).rejects.toMatchObject({ code: 'pack/key-mode' });
  expect((await readdir(dir)).sort()).toEqual(['flotilla.key', 'flotilla.pub']);
});

test('#44 a statement that is altered, cut, of another key, or in a circle leads nowhere', async () => {
  const [a, b, c] = [generateKey(), generateKey(), generateKey()];
  const good = signSuccession(a, b.publicKey);
  expect(parseSuccession(good.bytes)).toEqual(good);
  for (let at = 0; at < good.bytes.length; at += 5) {
    const altered = Uint8Array.from(good.bytes);
    altered[at] = (altered[at] ?? 0) ^ 4;
    expect(() => parseSuccession(altered)).toThrow(expect.objectContaining({ code: 'pack/key-succession' }));
  }
  expect(() => parseSuccession(good.bytes.subarray(1))).toThrow(/128 bytes/);
  expect(successorsOf(c.publicKey, [good])).toEqual([]);
  expect(successorsOf(a.publicKey, [good, signSuccession(b, a.publicKey)])).toEqual([good.to]);
  const dir = await scratch();
  await writeFile(join(dir, 'x.succession'), 'nonsense');
  await expect(readSuccessions(dir)).rejects.toMatchObject({
    code: 'pack/key-succession',
    where: join(dir, 'x.succession'),
  });
  await rm(dir, { recursive: true });
});
