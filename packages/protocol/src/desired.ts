import { ProtocolError } from './errors.ts';
import { Desired, DesiredRelease } from './messages.ts';

/** Ed25519 over the given bytes; 64 bytes. Passed in, because this package may not import a crypto library. */
export type Sign = (bytes: Uint8Array) => Uint8Array;
export type Verify = (bytes: Uint8Array, signature: Uint8Array) => boolean;

const context = new TextEncoder().encode('flotilla desired 1\n');

/** The bytes under the signature: `flotilla desired 1\n` and then `signed`. The prefix keeps signatures of one kind from passing as another. */
export function desiredSigningBytes(signed: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(context.length + signed.length);
  bytes.set(context);
  bytes.set(signed, context.length);
  return bytes;
}

export interface DesiredSigner {
  readonly id: string;
  readonly sign: Sign;
  /** For devices that know older keys only. Default: none. */
  readonly successions?: readonly Uint8Array[] | undefined;
}

/** @returns the payload for `desired/<name>` */
export function signDesired(release: DesiredRelease, key: DesiredSigner): Uint8Array {
  return signEncoded(DesiredRelease.encode(release), key);
}

/** The same release under another key. */
export function signDesiredAnew(payload: Uint8Array, key: DesiredSigner): Uint8Array {
  return signEncoded(Desired.decode(payload).signed, key);
}

function signEncoded(signed: Uint8Array, { id, sign, successions = [] }: DesiredSigner): Uint8Array {
  return Desired.encode({ signed, keyId: id, signature: sign(desiredSigningBytes(signed)), successions });
}

/**
 * Opens the payload of `desired/<name>`. What is checked is the bytes that came, never a re-encoding of them.
 * @throws {ProtocolError} `protocol/signature` for another key, a bad signature, or a release for another device or name
 */
export function verifyDesired(
  payload: Uint8Array,
  expected: { readonly device: string; readonly name: string; readonly keyId: string; readonly verify: Verify },
): DesiredRelease {
  const { signed, keyId, signature } = Desired.decode(payload);
  if (keyId !== expected.keyId) throw refused(`signed with key ${keyId}, not with ${expected.keyId}`);
  if (signature.length !== 64 || !expected.verify(desiredSigningBytes(signed), signature))
    throw refused('the signature does not match');
  const release = DesiredRelease.decode(signed);
  if (release.device !== expected.device) throw refused(`meant for device ${release.device}`);
  if (release.name !== expected.name) throw refused(`meant for model ${release.name}`);
  return release;
}

const refused = (what: string): ProtocolError =>
  new ProtocolError('protocol/signature', `desired release refused: ${what}`, { where: 'desired' });
