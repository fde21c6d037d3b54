import { generateKey, type PrivateKey, signSuccession } from '@flotilla/pack';
import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import type { Trust } from '../src/identity.ts';
import { Keyring } from '../src/keyring.ts';
import { nodeDisk } from '../src/node-disk.ts';

const [old, next, third, thief, pack, newPack] = Array.from({ length: 6 }, () => generateKey()) as [
  PrivateKey,
  PrivateKey,
  PrivateKey,
  PrivateKey,
  PrivateKey,
  PrivateKey,
];
const first: Trust = { controllerKey: old.publicKey, packKeys: [pack.publicKey] };
const statement = (from: PrivateKey, to: PrivateKey): Uint8Array => signSuccession(from, to.publicKey).bytes;
const idOf = (key: PrivateKey): string => key.publicKey.keyId;

let dir: string;
const open = (trust = first): Promise<Keyring> => Keyring.open(nodeDisk, dir, trust);
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'keyring-'));
});

/** Which key a release signed by `key` would have to be signed with. */
const judge = (ring: Keyring, key: PrivateKey, ...statements: Uint8Array[]): string =>
  ring.controllerKey(statements, idOf(key)).keyId;

test('a statement alone moves nothing: the controller has to sign with the new key', async () => {
  const ring = await open();
  expect(judge(ring, old, statement(old, next))).toBe(idOf(old));
  expect(judge(ring, next, statement(old, next))).toBe(idOf(next));
  expect(judge(ring, next)).toBe(idOf(old));
  expect(judge(ring, third, statement(old, next), statement(next, third))).toBe(idOf(third));
});

test('once it has moved on, the old key and what it says no longer count; so after a restart', async () => {
  const ring = await open();
  await ring.learn([statement(old, next)], idOf(next));
  for (const one of [ring, await open()]) {
    expect(judge(one, next)).toBe(idOf(next));
    expect(judge(one, old)).toBe(idOf(next));
    expect(judge(one, thief, statement(old, thief))).toBe(idOf(next));
    expect(judge(one, third, statement(next, third))).toBe(idOf(third));
  }
});

test('keys that sign packs become more, and none is dropped; a stranger’s word counts for nothing', async () => {
  const ring = await open();
  await ring.learn([statement(thief, thief), statement(thief, third), statement(pack, newPack)], idOf(old));
  for (const one of [ring, await open()])
    expect(one.packKeys.map(({ keyId }) => keyId)).toEqual([idOf(pack), idOf(newPack)]);
  await ring.learn([statement(old, next)], idOf(next)); // the controller's word makes no pack key
  expect(ring.packKeys).toHaveLength(2);
});

test('a damaged file costs what was learnt, and the same statements bring it back', async () => {
  await (await open()).learn([statement(old, next)], idOf(next));
  for (const copy of ['keyring.1', 'keyring.2']) await writeFile(join(dir, copy), 'torn');
  const ring = await open();
  expect(judge(ring, next)).toBe(idOf(old));
  expect(judge(ring, next, statement(old, next))).toBe(idOf(next));
});

test('a device that was provisioned anew goes by its new identity', async () => {
  await (await open()).learn([statement(old, next)], idOf(next));
  expect(judge(await open({ ...first, controllerKey: third.publicKey }), third)).toBe(idOf(third));
});

test('what cannot be kept does not count', async () => {
  const full = { ...nodeDisk, write: async () => Promise.reject(new Error('ENOSPC')) };
  const ring = await Keyring.open(full, dir, first);
  await expect(ring.learn([statement(pack, newPack)], idOf(old))).rejects.toThrow('ENOSPC');
  expect(ring.packKeys).toHaveLength(1);
});
