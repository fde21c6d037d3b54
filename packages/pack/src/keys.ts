import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  sign as edSign,
  verify as edVerify,
} from 'node:crypto';
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { mkdir, open, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fromSystem, PackError } from './errors.ts';
import { syncFolder } from './write-beside.ts';

/** An Ed25519 public key that has passed {@link publicKeyFromRaw}'s checks. */
export interface PublicKey {
  /** `sha256:` and the hash of the 32 raw bytes. */
  readonly keyId: string;
  readonly raw: Uint8Array;
  readonly pem: string;
  readonly key: KeyObject;
}

export interface PrivateKey {
  readonly publicKey: PublicKey;
  readonly key: KeyObject;
}

/** @see RFC 8410: the DER around an Ed25519 key never varies, so a key is one prefix and 32 bytes. */
const spkiPrefix = Buffer.from('302a300506032b6570032100', 'hex');
const pkcs8Prefix = Buffer.from('302e020100300506032b657004220420', 'hex');

export function generateKey(): PrivateKey {
  return privateKeyOf(generateKeyPairSync('ed25519').privateKey);
}

export function keyId(publicKey: PublicKey): string {
  return publicKey.keyId;
}

/** Ed25519 (RFC 8032) over the bytes as they are. @returns 64 bytes */
export function sign(privateKey: PrivateKey, bytes: Uint8Array): Uint8Array {
  return new Uint8Array(edSign(null, bytes, privateKey.key));
}

/** False for anything but this key's 64 bytes; OpenSSL refuses other lengths, and S ≥ L (RFC 8032 §5.1.7). */
export function verify(publicKey: PublicKey, bytes: Uint8Array, signature: Uint8Array): boolean {
  return edVerify(null, bytes, publicKey.key, signature);
}

/**
 * @param raw 32 bytes: the point's encoding of RFC 8032 §5.1.2
 * @throws {PackError} `pack/key-invalid`: wrong length, y ≥ p, or one of the points of small order, under which one
 *   signature fits many messages
 */
export function publicKeyFromRaw(raw: Uint8Array, where = 'public key'): PublicKey {
  if (raw.length !== 32) throw invalid(where, `an Ed25519 key has 32 bytes, this one ${raw.length}`);
  const point = Buffer.from(raw);
  point.writeUInt8(point.readUInt8(31) & 0x7f, 31);
  const y = point.toString('hex');
  if (smallOrder.has(y)) throw invalid(where, 'a weak key (small order)');
  if (BigInt(`0x${Buffer.from(point.toReversed()).toString('hex')}`) >= 2n ** 255n - 19n)
    throw invalid(where, 'not canonical');
  const der = Buffer.concat([spkiPrefix, raw]);
  const key = createPublicKey({ key: der, format: 'der', type: 'spki' });
  const id = `sha256:${createHash('sha256').update(raw).digest('hex')}`;
  return { keyId: id, raw: Uint8Array.from(raw), pem: pem('PUBLIC KEY', der), key };
}

/** PEM, SubjectPublicKeyInfo: exactly one block and nothing else. */
export function parsePublicKey(text: string, where = 'public key'): PublicKey {
  return publicKeyFromRaw(unwrap(text, 'PUBLIC KEY', spkiPrefix, where), where);
}

/** PEM, PKCS #8, not encrypted: exactly one block and nothing else. */
export function parsePrivateKey(text: string, where = 'private key'): PrivateKey {
  const seed = unwrap(text, 'PRIVATE KEY', pkcs8Prefix, where);
  return privateKeyOf(createPrivateKey({ key: Buffer.concat([pkcs8Prefix, seed]), format: 'der', type: 'pkcs8' }));
}

/** @throws {PackError} `pack/not-found`, `pack/key-invalid` */
export async function readPublicKey(file: string): Promise<PublicKey> {
  return parsePublicKey((await readKeyFile(file)).text, file);
}

/** @throws {PackError} `pack/not-found`, `pack/key-invalid`, `pack/key-mode` where others than the owner may read it */
export async function readPrivateKey(file: string): Promise<PrivateKey> {
  const { text, mode } = await readKeyFile(file);
  const key = parsePrivateKey(text, file);
  if (process.platform !== 'win32' && (mode & 0o077) !== 0)
    throw new PackError('pack/key-mode', `${file}: others may read this private key`, {
      where: file,
      hint: `chmod 600 ${file}`,
    });
  return key;
}

/**
 * Writes `flotilla.key` (mode 0600) and `flotilla.pub` into a folder, made if need be.
 * @throws {PackError} `pack/key-exists`: keys are never overwritten
 */
export async function writeKeyPair(
  dir: string,
  key: PrivateKey = generateKey(),
): Promise<{ readonly privateFile: string; readonly publicFile: string; readonly keyId: string }> {
  const privateFile = join(dir, 'flotilla.key');
  const publicFile = join(dir, 'flotilla.pub');
  const secret = pem('PRIVATE KEY', key.key.export({ format: 'der', type: 'pkcs8' }));
  await mkdir(dir, { recursive: true }).catch((error: unknown) => {
    throw fromSystem(error, dir);
  });
  await writeNew(privateFile, secret, 0o600);
  await writeNew(publicFile, key.publicKey.pem, 0o644).catch(async (error: unknown) => {
    await rm(privateFile, { force: true }); // nobody has used it; half a pair would be in the way of the next try
    throw error;
  });
  return { privateFile, publicFile, keyId: key.publicKey.keyId };
}

/** The same over the pair that is there. The private half first: it is the one that counts. */
export async function replaceKeyPair(
  dir: string,
  key: PrivateKey,
): Promise<{ readonly privateFile: string; readonly publicFile: string; readonly keyId: string }> {
  const beside = join(dir, '.rotating');
  await rm(beside, { recursive: true, force: true }); // of a rotation that was cut off
  const { privateFile, publicFile, keyId } = await writeKeyPair(beside, key);
  const files = { privateFile: join(dir, 'flotilla.key'), publicFile: join(dir, 'flotilla.pub') };
  try {
    await rename(privateFile, files.privateFile);
    await rename(publicFile, files.publicFile);
    await syncFolder(dir);
    await rm(beside, { recursive: true, force: true });
  } catch (error) {
    throw fromSystem(error, dir);
  }
  return { ...files, keyId };
}

function privateKeyOf(key: KeyObject): PrivateKey {
  const der = createPublicKey(key).export({ format: 'der', type: 'spki' });
  return { publicKey: publicKeyFromRaw(der.subarray(spkiPrefix.length)), key };
}

/** y of the points of order 1, 2, 4 and 8, little-endian, sign bit clear. */
const smallOrder = new Set([
  `01${'00'.repeat(31)}`,
  `ec${'ff'.repeat(30)}7f`,
  '00'.repeat(32),
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
]);

function pem(label: string, der: Uint8Array): string {
  return `-----BEGIN ${label}-----\n${Buffer.from(der).toString('base64')}\n-----END ${label}-----\n`;
}

/** The key inside the PEM. Writing it again must give the same text: so no second block, no extra DER, no comments. */
function unwrap(text: string, label: string, prefix: Uint8Array, where: string): Buffer {
  const body = new RegExp(`^-----BEGIN ${label}-----\\n([A-Za-z0-9+/=]{1,200})\\n-----END ${label}-----\\n$`).exec(
    text.replaceAll('\r\n', '\n').replace(/\n?$/, '\n'),
  )?.[1];
  if (body === undefined) throw invalid(where, `not one PEM block "${label}" and nothing else`);
  const der = Buffer.from(body, 'base64');
  if (
    der.toString('base64') !== body ||
    der.length !== prefix.length + 32 ||
    !der.subarray(0, prefix.length).equals(prefix)
  )
    throw invalid(where, 'not an Ed25519 key and nothing else');
  return der.subarray(prefix.length);
}

export async function readKeyFile(file: string): Promise<{ readonly text: string; readonly mode: number }> {
  try {
    const handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const { mode, size } = await handle.stat();
      if (size > 4096) throw invalid(file, 'far too long for a key');
      return { text: await handle.readFile('utf8'), mode };
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw fromSystem(error, file);
  }
}

/** Never over anything, and whole or not at all. @throws {PackError} `pack/key-exists` */
export async function writeNew(file: string, text: string, mode: number): Promise<void> {
  let isOurs = false;
  try {
    const handle = await open(file, 'wx', mode);
    isOurs = true;
    try {
      await handle.chmod(mode); // whatever the umask
      await handle.writeFile(text);
      await handle.sync();
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (isOurs) await rm(file, { force: true });
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST')
      throw new PackError('pack/key-exists', `${file} is there already; keys are never overwritten`, { where: file });
    throw fromSystem(error, file);
  }
}

function invalid(where: string, problem: string): PackError {
  return new PackError('pack/key-invalid', `${where}: ${problem}`, {
    where,
    hint: 'flotilla keys init makes a new pair',
  });
}
