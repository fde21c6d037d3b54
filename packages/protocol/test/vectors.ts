import { createHash, createPrivateKey, createPublicKey, type KeyObject, sign, verify } from 'node:crypto';
import {
  Answer,
  Call,
  Chunk,
  Desired,
  DesiredRelease,
  desiredSigningBytes,
  FetchRequest,
  Presence,
  Reported,
  signDesired,
  Telemetry,
} from '../src/index.ts';

/** The key of RFC 8032 §7.1, test 1: what it signs can be checked with any library. */
const seed = '9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60';
const privateKey = createPrivateKey({
  key: Buffer.from(`302e020100300506032b657004220420${seed}`, 'hex'),
  format: 'der',
  type: 'pkcs8',
});
export const publicKey: KeyObject = createPublicKey(privateKey);
export const rawPublicKey = publicKey.export({ format: 'der', type: 'spki' }).subarray(-32);
export const keyId = `sha256:${createHash('sha256').update(rawPublicKey).digest('hex')}`;
export const verifyWith = (bytes: Uint8Array, signature: Uint8Array): boolean =>
  verify(null, bytes, publicKey, signature);

const digest = `sha256:${'ab'.repeat(32)}`;
export const release: DesiredRelease = {
  device: 'pi-1',
  name: 'labels',
  sequence: 3,
  digest,
  manifestBytes: 1200,
  totalBytes: 3_400_000,
  version: '1.2.0',
  healthWindowMs: 10_000,
  stateDeadlineMs: 600_000,
};
const payload = signDesired(release, { id: keyId, sign: (bytes) => sign(null, bytes, privateKey) });
const { signed, signature } = Desired.decode(payload);
const session = 1_790_000_000_000;
const birth = {
  agentVersion: '0.1.0',
  runtimeVersion: '1.30.0',
  board: 'raspberrypi-5',
  boardClass: 'arm64-dotprod',
  ramBytes: 8_589_934_592,
  freeStorageBytes: 20_000_000_000,
};
const reported: Reported = {
  session,
  counter: 513,
  name: 'labels',
  state: 'failed',
  sequence: 3,
  releaseDigest: digest,
  loadedDigest: '',
  reason: 'golden-mismatch',
  detail: 'case "1", output y: off by 0.5, allowed 0.1',
  waiting: undefined,
  bytesDone: 0,
  bytesTotal: 0,
  atMs: 1_790_000_000_500,
};

/** As they stand in the README. */
export const vectors: readonly (readonly [string, Uint8Array])[] = [
  ['Presence, online', Presence.encode({ protocol: 1, session, online: true, instance: 1_832_960_000_000_001, birth })],
  [
    'Presence, the will',
    Presence.encode({ protocol: 1, session, online: false, instance: 1_832_960_000_000_001, birth: undefined }),
  ],
  ['Reported', Reported.encode(reported)],
  [
    'Telemetry',
    Telemetry.encode({
      session,
      counter: 514,
      name: 'labels',
      digest,
      latencyHistogram: Uint8Array.of(1, 2, 3),
      throughputPerS: 12.5,
      peakRssBytes: 90_000_000,
      pssBytes: 0,
      weightsBytes: 3_000_000,
      windowMs: 5000,
      failures: 0,
    }),
  ],
  ['FetchRequest', FetchRequest.encode({ session, digest, offset: 262_144, length: 262_144 })],
  ['Chunk', Chunk.encode({ digest, offset: 0, blobBytes: 4, data: Uint8Array.of(1, 2, 3, 4), error: '' })],
  [
    'Chunk, no such blob',
    Chunk.encode({ digest, offset: 0, blobBytes: 0, data: new Uint8Array(), error: 'not-found' }),
  ],
  ['Call', Call.encode({ id: 'c1', name: 'commands', prompt: 'lights on', maxTokens: 32, benchMs: 0 })],
  [
    'Answer',
    Answer.encode({
      id: 'c1',
      digest,
      text: '{"on":true}',
      tokens: 5,
      timeToFirstTokenUs: 41_000,
      tokensPerSecond: 50,
      error: '',
    }),
  ],
  ['DesiredRelease', DesiredRelease.encode(release)],
  ['bytes under the signature', desiredSigningBytes(signed)],
  ['signature', signature],
  ['public key', rawPublicKey],
  ['Desired', payload],
];
