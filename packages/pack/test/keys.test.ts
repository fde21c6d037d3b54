import { execFileSync, spawnSync } from 'node:child_process';
import { chmod, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  generateKey,
  keyId,
  parsePrivateKey,
  parsePublicKey,
  publicKeyFromRaw,
  readPrivateKey,
  readPublicKey,
  sign,
  verify,
  writeKeyPair,
} from '../src/index.ts';
import { scratch } from './sample.ts';
import { malleated } from './tamper.ts';

const message = new TextEncoder().encode('message');

test('a pair is written, read, and not overwritten', async () => {
  const dir = join(await scratch(), 'keys');
  const umask = process.umask(0o077);
  const pair = await writeKeyPair(dir);
  process.umask(umask);
  const secret = await readPrivateKey(pair.privateFile);
  const open = await readPublicKey(pair.publicFile);
  expect(keyId(open)).toBe(pair.keyId);
  expect(verify(open, message, sign(secret, message))).toBe(true);
  expect((await stat(pair.privateFile)).mode & 0o777).toBe(0o600);
  expect((await stat(pair.publicFile)).mode & 0o777).toBe(0o644);
  const before = await readFile(pair.privateFile);
  await expect(writeKeyPair(dir)).rejects.toMatchObject({ code: 'pack/key-exists' });
  expect(await readFile(pair.privateFile)).toEqual(before);
});

test('a private key that others may read', async () => {
  const { privateFile } = await writeKeyPair(await scratch());
  for (const mode of [0o640, 0o604, 0o644]) {
    await chmod(privateFile, mode);
    await expect(readPrivateKey(privateFile)).rejects.toMatchObject({ code: 'pack/key-mode' });
  }
});

test('no key, a folder, a FIFO', async () => {
  const dir = await scratch();
  await expect(readPublicKey(join(dir, 'absent'))).rejects.toMatchObject({ code: 'pack/not-found' });
  await expect(readPublicKey(dir)).rejects.toMatchObject({ code: 'pack/io' });
  execFileSync('mkfifo', [join(dir, 'fifo')]);
  await expect(readPublicKey(join(dir, 'fifo'))).rejects.toMatchObject({ code: 'pack/key-invalid' });
});

test('the test vectors of RFC 8032', () => {
  const seeds = [
    [
      '9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60',
      'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a',
      '',
      'e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b',
    ],
    [
      '4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb',
      '3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c',
      '72',
      '92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00',
    ],
  ];
  for (const [seed = '', raw = '', text = '', signature = ''] of seeds) {
    const der = Buffer.from(`302e020100300506032b657004220420${seed}`, 'hex').toString('base64');
    const key = parsePrivateKey(`-----BEGIN PRIVATE KEY-----\n${der}\n-----END PRIVATE KEY-----\n`);
    expect(Buffer.from(key.publicKey.raw).toString('hex')).toBe(raw);
    expect(Buffer.from(sign(key, Buffer.from(text, 'hex'))).toString('hex')).toBe(signature);
  }
});

test.skipIf(spawnSync('openssl', ['version']).status !== 0)('keys go from and to openssl', async () => {
  const dir = await scratch();
  const { privateFile, publicFile } = await writeKeyPair(dir);
  const derived = execFileSync('openssl', ['pkey', '-in', privateFile, '-pubout'], { encoding: 'utf8' });
  expect(derived).toBe(await readFile(publicFile, 'utf8'));
  expect(
    parsePrivateKey(execFileSync('openssl', ['genpkey', '-algorithm', 'ed25519'], { encoding: 'utf8' })).publicKey.raw,
  ).toHaveLength(32);
});

describe('#44 what an Ed25519 key or signature can get wrong', () => {
  const key = generateKey();
  const good = sign(key, message);

  test('#44 S ≥ L: the same signature, malleated', () => {
    expect(verify(key.publicKey, message, good)).toBe(true);
    expect(verify(key.publicKey, message, malleated(good))).toBe(false);
  });

  test('#44 signatures of a wrong length', () => {
    for (const length of [0, 1, 32, 63]) expect(verify(key.publicKey, message, good.subarray(0, length))).toBe(false);
    expect(verify(key.publicKey, message, Buffer.concat([good, Buffer.alloc(1)]))).toBe(false);
  });

  test('#44 another message, another key', () => {
    expect(verify(key.publicKey, Buffer.from('massage'), good)).toBe(false);
    expect(verify(generateKey().publicKey, message, good)).toBe(false);
  });

  // The table of Chalkias, Garillot, Nikolaenko, "Taming the many EdDSAs" (2020): points of order 1, 2, 4, 8, with both
  // signs, and their encodings with y ≥ p.
  test.each([
    '0000000000000000000000000000000000000000000000000000000000000000',
    '0000000000000000000000000000000000000000000000000000000000000080',
    '0100000000000000000000000000000000000000000000000000000000000000',
    '0100000000000000000000000000000000000000000000000000000000000080',
    'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
    'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff',
    'edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
    'edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff',
    'eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
    'eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff',
    '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
    '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85',
    'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
    'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa',
  ])('#44 the weak key %s', (hex) => {
    expect(() => publicKeyFromRaw(Buffer.from(hex, 'hex'))).toThrow(
      expect.objectContaining({ code: 'pack/key-invalid' }),
    );
  });

  test('#44 a key of small order would otherwise verify anything', () => {
    // Why the refusal above is needed: with A the neutral point, R = S·B fits every message, and OpenSSL says so.
    const zero = Buffer.concat([Buffer.from('01', 'hex'), Buffer.alloc(63)]);
    const der = Buffer.concat([Buffer.from('302a300506032b6570032100', 'hex'), zero.subarray(0, 32)]);
    const pem = `-----BEGIN PUBLIC KEY-----\n${der.toString('base64')}\n-----END PUBLIC KEY-----\n`;
    expect(() => parsePublicKey(pem)).toThrow('small order');
  });

  test.each([0, 31, 33, 64])('#44 a key of %i bytes', (length) => {
    expect(() => publicKeyFromRaw(new Uint8Array(length).fill(9))).toThrow(
      expect.objectContaining({ code: 'pack/key-invalid' }),
    );
  });

  const pem = key.publicKey.pem;
  const der = Buffer.from(pem.split('\n')[1] ?? '', 'base64');
  const wrap = (bytes: Uint8Array) =>
    `-----BEGIN PUBLIC KEY-----\n${Buffer.from(bytes).toString('base64')}\n-----END PUBLIC KEY-----\n`;

  test.each([
    ['text before the block', `hello\n${pem}`],
    ['text after the block', `${pem}hello\n`],
    ['two blocks', pem + pem],
    ['a comment inside', pem.replace('\n', '\nComment: x\n\n')],
    ['extra DER', wrap(Buffer.concat([der, Buffer.from('0500', 'hex')]))],
    ['a byte less', wrap(der.subarray(0, -1))],
    [
      'another algorithm (X25519)',
      wrap(Buffer.concat([Buffer.from('302a300506032b656e032100', 'hex'), der.subarray(12)])),
    ],
    ['another label', pem.replaceAll('PUBLIC KEY', 'CERTIFICATE')],
    [
      'base64 with loose bits',
      pem.replace(/(.)=\n/, (_, c: string) => `${c === 'A' ? 'B' : String.fromCharCode(c.charCodeAt(0) + 1)}=\n`),
    ],
    ['base64 with a letter that is none', pem.replace('MCow', 'MC*w')],
    ['nothing', ''],
    ['a megabyte', 'x'.repeat(1 << 20)],
  ])('#44 PEM: %s', async (_, text) => {
    expect(() => parsePublicKey(text)).toThrow(expect.objectContaining({ code: 'pack/key-invalid' }));
    const file = join(await scratch(), 'key.pem');
    await writeFile(file, text);
    await expect(readPublicKey(file)).rejects.toMatchObject({ code: 'pack/key-invalid', where: file });
  });

  test('#44 a private key a byte too short or too long', () => {
    for (const length of [31, 33, 40]) {
      const seed = Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), Buffer.alloc(length, 7)]);
      const text = wrap(seed).replaceAll('PUBLIC', 'PRIVATE');
      expect(() => parsePrivateKey(text)).toThrow(expect.objectContaining({ code: 'pack/key-invalid' }));
    }
  });

  test('a private key is not taken for a public one, nor the reverse', async () => {
    const { privateFile } = await writeKeyPair(await scratch());
    await expect(readPublicKey(privateFile)).rejects.toMatchObject({ code: 'pack/key-invalid' });
    expect(() => parsePrivateKey(pem)).toThrow(expect.objectContaining({ code: 'pack/key-invalid' }));
  });

  test('lines may end in CR LF, and the last in nothing', () => {
    expect(parsePublicKey(pem.replaceAll('\n', '\r\n')).keyId).toBe(key.publicKey.keyId);
    expect(parsePublicKey(pem.trimEnd()).keyId).toBe(key.publicKey.keyId);
  });
});
