import { generateKeyPairSync, sign, verify } from 'node:crypto';
import { expect, test } from 'vitest';
import { Desired, type DesiredRelease, signDesired, verifyDesired } from '../src/index.ts';

const { privateKey, publicKey } = generateKeyPairSync('ed25519');
const id = `sha256:${'11'.repeat(32)}`;
const release: DesiredRelease = {
  device: 'pi-1',
  name: 'labels',
  sequence: 4,
  digest: `sha256:${'cd'.repeat(32)}`,
  manifestBytes: 700,
  totalBytes: 3_000_000,
  version: '2.0.0',
  healthWindowMs: 5000,
  stateDeadlineMs: 60_000,
};
const payload = signDesired(release, { id, sign: (bytes) => sign(null, bytes, privateKey) });
const expected = {
  device: 'pi-1',
  name: 'labels',
  keyId: id,
  verify: (bytes: Uint8Array, signature: Uint8Array) => verify(null, bytes, publicKey, signature),
};
const refusal = expect.objectContaining({ code: 'protocol/signature' });

test('a signed release opens', () => {
  expect(verifyDesired(payload, expected)).toEqual(release);
});

test('#43 a release for another device or model is refused', () => {
  expect(() => verifyDesired(payload, { ...expected, device: 'pi-2' })).toThrow(refusal);
  expect(() => verifyDesired(payload, { ...expected, name: 'commands' })).toThrow(refusal);
});

test('#44 every altered bit of what is signed, of the signature or of the key is refused', () => {
  const { signed, signature, keyId } = Desired.decode(payload);
  for (let i = 0; i < signed.length; i++) {
    const altered = Uint8Array.from(signed);
    altered[i] = (altered[i] ?? 0) ^ 1;
    expect(() =>
      verifyDesired(Desired.encode({ signed: altered, keyId, signature, successions: [] }), expected),
    ).toThrow(refusal);
  }
  for (const bad of [new Uint8Array(0), signature.subarray(1), Uint8Array.from(signature, (byte) => byte ^ 0x80)])
    expect(() => verifyDesired(Desired.encode({ signed, keyId, signature: bad, successions: [] }), expected)).toThrow(
      refusal,
    );
  expect(() => verifyDesired(payload, { ...expected, keyId: `sha256:${'22'.repeat(32)}` })).toThrow(refusal);
});

test('#44 the bytes that came are checked, not a re-encoding of them', () => {
  const { signed, keyId, signature } = Desired.decode(payload);
  const padded = Uint8Array.from([...signed, 0xa2, 0x1f, 1, 7]); // an unknown field: decodes to the same release
  expect(() => verifyDesired(Desired.encode({ signed: padded, keyId, signature, successions: [] }), expected)).toThrow(
    refusal,
  );
});
