import { canonicalJson, isRecord, parseCanonicalJson } from './canonical-json.ts';
import { digestOf } from './digest.ts';
import { PackError } from './errors.ts';
import { type PrivateKey, type PublicKey, publicKeyFromRaw, sign, verify } from './keys.ts';

/**
 * What is signed: a line that no other use of the key can begin with, then the digest of the pack config, which lists
 * every file's path, role, digest and size, and from which the manifest follows.
 */
function statement(packConfig: Uint8Array): Uint8Array {
  return new TextEncoder().encode(`flotilla pack signature v1\n${digestOf(packConfig)}\n`);
}

/** The signature layer: canonical JSON `{ algorithm, keyId, publicKey, signature }`, the last two in base64. */
export function signConfig(packConfig: Uint8Array, key: PrivateKey): Uint8Array {
  return canonicalJson({
    algorithm: 'ed25519',
    keyId: key.publicKey.keyId,
    publicKey: base64(key.publicKey.raw),
    signature: base64(sign(key, statement(packConfig))),
  });
}

/**
 * Checks the layer against the config: its own key must have signed it. Whether that key is to be trusted is another
 * question, see {@link requireTrust}.
 * @throws {PackError} `pack/signature`, `pack/key-invalid`
 */
export function verifySignature(layer: Uint8Array, packConfig: Uint8Array): PublicKey {
  const value = parseCanonicalJson(layer);
  if (!isRecord(value) || Object.keys(value).join() !== 'algorithm,keyId,publicKey,signature')
    throw refused('it is not a signature layer in canonical JSON');
  if (value['algorithm'] !== 'ed25519') throw refused(`algorithm ${JSON.stringify(value['algorithm'])}`);
  const key = publicKeyFromRaw(bytesOf(value['publicKey'], 32), 'the signature’s key');
  if (value['keyId'] !== key.keyId) throw refused('its key id is not that of its key');
  if (!verify(key, statement(packConfig), bytesOf(value['signature'], 64)))
    throw refused('it was not made by its key over this pack');
  return key;
}

/** @throws {PackError} `pack/unsigned`, `pack/untrusted` */
export function requireTrust(signedBy: string | undefined, trusted: readonly PublicKey[], where: string): void {
  if (signedBy === undefined)
    throw new PackError('pack/unsigned', `${where} is not signed`, { where, hint: 'flotilla pack sign' });
  if (!trusted.some((key) => key.keyId === signedBy))
    throw new PackError('pack/untrusted', `${where} is signed by ${signedBy}, which is not trusted`, { where });
}

function bytesOf(text: unknown, length: number): Uint8Array {
  const bytes = typeof text === 'string' ? Buffer.from(text, 'base64') : new Uint8Array();
  if (bytes.length !== length || base64(bytes) !== text) throw refused(`not ${length} bytes in base64`);
  return bytes;
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64');
}

function refused(problem: string): PackError {
  return new PackError('pack/signature', `signature: ${problem}`);
}
