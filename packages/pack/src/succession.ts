import { createHash } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fromSystem, PackError } from './errors.ts';
import {
  generateKey,
  type PrivateKey,
  type PublicKey,
  publicKeyFromRaw,
  readKeyFile,
  readPrivateKey,
  replaceKeyPair,
  sign,
  verify,
  writeKeyPair,
  writeNew,
} from './keys.ts';

/** The word of an old key on a new one: whoever trusts the old one may trust the new one as well. */
export interface Succession {
  /** Id of the old key. */
  readonly from: string;
  readonly to: PublicKey;
  /** The statement itself: 32 raw bytes of the old key, 32 of the new one, 64 of the old one's signature over both. */
  readonly bytes: Uint8Array;
}

const BYTES = 32 + 32 + 64;
/** A line that no other use of a key can begin with. */
const context = new TextEncoder().encode('flotilla key succession v1\n');
const suffix = '.succession';
const block = new RegExp(
  '^-----BEGIN FLOTILLA KEY SUCCESSION-----\n([A-Za-z0-9+/=]{172})\n-----END FLOTILLA KEY SUCCESSION-----\n$',
);

export function signSuccession(old: PrivateKey, next: PublicKey): Succession {
  const both = Buffer.concat([old.publicKey.raw, next.raw]);
  const signature = sign(old, Buffer.concat([context, both]));
  return { from: old.publicKey.keyId, to: next, bytes: new Uint8Array(Buffer.concat([both, signature])) };
}

/** Whether the old key is one to believe is the caller's question. @throws {PackError} `pack/key-succession` */
export function parseSuccession(bytes: Uint8Array, where = 'key succession'): Succession {
  if (bytes.length !== BYTES) throw refused(where, `it has ${BYTES} bytes, this one ${bytes.length}`);
  try {
    const old = publicKeyFromRaw(bytes.subarray(0, 32), where);
    const to = publicKeyFromRaw(bytes.subarray(32, 64), where);
    if (verify(old, Buffer.concat([context, bytes.subarray(0, 64)]), bytes.subarray(64)))
      return { from: old.keyId, to, bytes: Uint8Array.from(bytes) };
  } catch (cause) {
    if (!(cause instanceof PackError)) throw cause;
    throw refused(where, cause.message, cause);
  }
  throw refused(where, 'the old key did not sign it');
}

/** The keys that follow on `first`, in order, `first` left out. A key never comes twice, so a circle ends. */
export function successorsOf(first: PublicKey, successions: readonly Succession[]): readonly PublicKey[] {
  const chain = [first];
  for (let at = 0; at < chain.length; at++)
    for (const { from, to } of successions)
      if (from === chain[at]?.keyId && !chain.some(({ keyId }) => keyId === to.keyId)) chain.push(to);
  return chain.slice(1);
}

/** All `*.succession` in a folder, in the order of their names. @throws {PackError} `pack/key-succession` */
export async function readSuccessions(dir: string): Promise<readonly Succession[]> {
  const names = await readdir(dir).catch((error: unknown) => {
    throw fromSystem(error, dir);
  });
  const found: Succession[] = [];
  for (const name of names.filter((one) => one.endsWith(suffix)).sort()) {
    const file = join(dir, name);
    const body = block.exec((await readKeyFile(file)).text.replaceAll('\r\n', '\n'))?.[1];
    if (body === undefined) throw refused(file, 'not one PEM block "FLOTILLA KEY SUCCESSION" and nothing else');
    found.push(parseSuccession(Buffer.from(body, 'base64'), file));
  }
  return found;
}

export interface Rotation {
  readonly keyId: string;
  /** Id of the old key. */
  readonly replaces: string;
  readonly privateFile: string;
  readonly publicFile: string;
  readonly successionFile: string;
  /** Where the old pair lies now. */
  readonly retiredDir: string;
}

/**
 * Puts a new key pair in the place of the one in `dir`. The old one moves to `retired-<id>/`, and its word on the new
 * one is written beside: the old pair and the statement are on the disk before the new key takes its place, so a kill
 * at any moment leaves a key that signs, and nobody without a way to it.
 * @throws {PackError} `pack/not-found`, `pack/key-invalid`, `pack/key-mode`
 */
export async function rotateKey(dir: string, next: PrivateKey = generateKey()): Promise<Rotation> {
  const old = await readPrivateKey(join(dir, 'flotilla.key'));
  const successionFile = join(dir, `${shortId(old.publicKey)}-${shortId(next.publicKey)}${suffix}`);
  const retiredDir = join(dir, `retired-${shortId(old.publicKey)}`);
  await writeKeyPair(retiredDir, old).catch((error: unknown) => {
    // A rotation that was cut off has put it there already.
    if (!(error instanceof PackError) || error.code !== 'pack/key-exists') throw error;
  });
  const text = Buffer.from(signSuccession(old, next.publicKey).bytes).toString('base64');
  const label = 'FLOTILLA KEY SUCCESSION';
  await writeNew(successionFile, `-----BEGIN ${label}-----\n${text}\n-----END ${label}-----\n`, 0o644);
  const { privateFile, publicFile, keyId } = await replaceKeyPair(dir, next);
  return { keyId, replaces: old.publicKey.keyId, privateFile, publicFile, successionFile, retiredDir };
}

const shortId = ({ raw }: PublicKey): string => createHash('sha256').update(raw).digest('hex').slice(0, 12);

function refused(where: string, problem: string, cause?: unknown): PackError {
  return new PackError('pack/key-succession', `${where}: ${problem}`, { where, cause, hint: 'flotilla keys rotate' });
}
