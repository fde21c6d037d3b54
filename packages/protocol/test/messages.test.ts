import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { flotilla } from '../generated/flotilla.js';
import {
  Answer,
  Call,
  Chunk,
  CHUNK_BYTES,
  type Codec,
  DesiredRelease,
  FetchRequest,
  Presence,
  ProtocolError,
  Reported,
  STATES,
  Telemetry,
} from '../src/index.ts';

const digest = `sha256:${'ab'.repeat(32)}`;
const reported: Reported = {
  session: 7,
  counter: 2 ** 40,
  name: 'labels',
  state: 'rolled-back',
  sequence: 3,
  releaseDigest: digest,
  loadedDigest: '',
  reason: 'golden-mismatch',
  detail: 'case 3, output y: 0.5 off',
  waiting: undefined,
  bytesDone: 0,
  bytesTotal: 2 ** 53 - 1,
  atMs: 1_790_000_000_000,
};
const telemetry: Telemetry = {
  session: 1,
  counter: 1,
  name: 'labels',
  digest,
  latencyHistogram: new Uint8Array([1, 2, 3]),
  throughputPerS: 12.5,
  peakRssBytes: 1,
  pssBytes: 0,
  weightsBytes: 1,
  windowMs: 1000,
  failures: 0,
};

function code(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    if (error instanceof ProtocolError) return error.code;
    throw error;
  }
  return 'accepted';
}

describe('every message comes back as it went', () => {
  const birth = {
    agentVersion: '0.1.0',
    runtimeVersion: '1.30.0',
    board: 'raspberrypi-5',
    boardClass: 'arm64-dotprod',
    ramBytes: 8e9,
    freeStorageBytes: 0,
  };
  const cases: [string, Codec<never>, object][] = [
    ['Presence', Presence as Codec<never>, { protocol: 1, session: 5, online: true, instance: 9, birth }],
    [
      'Presence as a will',
      Presence as Codec<never>,
      { protocol: 1, session: 5, online: false, instance: 9, birth: undefined },
    ],
    ['Reported', Reported as Codec<never>, reported],
    ['Telemetry', Telemetry as Codec<never>, telemetry],
    ['Telemetry of text', Telemetry as Codec<never>, { ...telemetry, timeToFirstTokenUs: 2500, tokensPerSecond: 80.5 }],
    [
      'Call for drawn text by a schema',
      Call as Codec<never>,
      { id: 'c2', name: 'commands', prompt: 'x', maxTokens: 16, benchMs: 0, temperature: 0.7, seed: 9, schema: '{}' },
    ],
    ['FetchRequest', FetchRequest as Codec<never>, { session: 1, digest, offset: 2 ** 33, length: CHUNK_BYTES }],
    ['Chunk', Chunk as Codec<never>, { digest, offset: 0, blobBytes: 9, data: new Uint8Array(9).fill(7), error: '' }],
    ['Call', Call as Codec<never>, { id: 'c1', name: 'commands', prompt: 'größer 🚢', maxTokens: 16, benchMs: 0 }],
    [
      'Answer',
      Answer as Codec<never>,
      {
        id: 'c1',
        digest: '',
        text: '',
        tokens: 0,
        timeToFirstTokenUs: 0,
        tokensPerSecond: 0,
        error: 'runtime/load: x',
      },
    ],
  ];
  test.each(cases)('%s', (_title, message, value) => {
    expect(message.decode(message.encode(value as never))).toEqual(value);
  });
  test('the largest chunk', () => {
    const data = Uint8Array.from({ length: CHUNK_BYTES }, (_, at) => at * 7);
    const chunk = { digest, offset: 0, blobBytes: CHUNK_BYTES, data, error: '' };
    // Vitest compares typed arrays member by member, which takes seconds.
    expect(Buffer.from(Chunk.decode(Chunk.encode(chunk)).data).equals(data)).toBe(true);
  });
  test('any state and count, by fast-check', () => {
    fc.assert(
      fc.property(fc.constantFrom(...STATES), fc.maxSafeNat(), fc.string({ maxLength: 512 }), (state, n, detail) => {
        const message = { ...reported, state, counter: n, detail: detail.toWellFormed() };
        expect(Reported.decode(Reported.encode(message))).toEqual(message);
      }),
    );
  });
});

describe('#47 what a peer may send and must not harm', () => {
  test('bytes that are no message', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        for (const message of [Presence, Reported, Telemetry, FetchRequest, Chunk, Call, Answer, DesiredRelease])
          expect(code(() => message.decode(bytes))).toMatch(/^(accepted|protocol\/)/);
      }),
    );
  });
  test('every prefix of a good message', () => {
    const bytes = Reported.encode(reported);
    for (let length = 0; length < bytes.length; length++)
      expect(code(() => Reported.decode(bytes.subarray(0, length)))).toMatch(/^(accepted|protocol\/)/);
  });
  test('10 MB of telemetry', () => {
    expect(code(() => Telemetry.decode(new Uint8Array(10_000_000)))).toBe('protocol/too-large');
    expect(code(() => Telemetry.encode({ ...telemetry, latencyHistogram: new Uint8Array(40_000) }))).toBe(
      'protocol/value',
    );
  });
  test('NaN, infinite and negative figures', () => {
    for (const throughputPerS of [Number.NaN, Number.POSITIVE_INFINITY, -1])
      expect(code(() => Telemetry.encode({ ...telemetry, throughputPerS }))).toBe('protocol/value');
    const wire = flotilla.v1.Telemetry.encode({ name: 'labels', digest, throughputPerS: Number.NaN }).finish();
    expect(code(() => Telemetry.decode(wire))).toBe('protocol/value');
  });
  test('a counter beyond 2^53 is refused, not rounded', () => {
    const bytes = Uint8Array.from([0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
    expect(code(() => Reported.decode(bytes))).toBe('protocol/value');
  });
  test('another protocol version', () => {
    const bytes = flotilla.v1.Presence.encode({ protocol: 2, online: true }).finish();
    expect(code(() => Presence.decode(bytes))).toBe('protocol/version');
  });
  test('an unknown state, a state of 0, a name with SQL or a path in it', () => {
    for (const state of [0, 13, 99]) {
      const bytes = flotilla.v1.Reported.encode({ name: 'labels', state: state as never }).finish();
      expect(code(() => Reported.decode(bytes))).toBe('protocol/value');
    }
    for (const name of ["x'; drop table devices", '../a', '.', '', '__proto__'])
      expect(code(() => Reported.encode({ ...reported, name }))).toBe('protocol/value');
  });
  test('unknown fields are ignored', () => {
    const extra = Uint8Array.from([...Reported.encode(reported), 0xa2, 0x1f, 1, 7]);
    expect(Reported.decode(extra)).toEqual(reported);
  });
  test('a fetch of more than a chunk, or of nothing', () => {
    for (const length of [0, CHUNK_BYTES + 1])
      expect(code(() => FetchRequest.encode({ session: 1, digest, offset: 0, length }))).toBe('protocol/value');
  });
});
