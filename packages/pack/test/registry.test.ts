import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import {
  createPack,
  dockerCredentials,
  generateKey,
  parseReference,
  type PullOptions,
  pullPack,
  pushPack,
  type PushOptions,
} from '../src/index.ts';
import { parseChallenge } from '../src/registry/challenge.ts';
import { startRegistry, type TestRegistry } from './registry-server.ts';
import { contents, noise, scratch } from './sample.ts';

const key = generateKey();
const credentials = { username: 'ann', password: 'pass:word' };
let registry: TestRegistry;
let dir: string;
let pack: string;
let digest: string;

beforeEach(async () => {
  vi.stubEnv('DOCKER_CONFIG', '/nowhere');
  dir = await scratch();
  pack = join(dir, 'labels.pack');
  ({ digest } = await createPack(pack, withModel(300_000), { key }));
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await registry?.close();
});

const withModel = (bytes: number) => ({
  ...contents,
  files: contents.files.map((file) => (file.role === 'model' ? { ...file, source: noise(bytes, 5) } : file)),
});
const name = (tag = 'v1'): string => `${registry.host}/m/labels:${tag}`;
const retryPauseMs = 5;
const push = (options?: PushOptions) => pushPack(pack, name(), { retryPauseMs, ...options });
const pull = (options?: PullOptions) => pullPack(name(), join(dir, 'back'), { retryPauseMs, ...options });

describe('a pack goes into a registry and comes out the same', () => {
  test('as a tar and as a folder; a second push sends nothing but the manifest', async () => {
    registry = await startRegistry();
    const told: number[] = [];
    const pushed = await push({ onProgress: (done, total) => told.push(done / total) });
    expect(pushed).toMatchObject({ reference: name(), digest });
    expect(told.at(-1)).toBeCloseTo(1, 1);
    expect((await push()).uploadedBytes).toBe(0);
    const pulled = await pullPack(name(), join(dir, 'back.pack'), { trusted: [key.publicKey] });
    expect(pulled).toMatchObject({ digest, signedBy: key.publicKey.keyId });
    expect((await readFile(pulled.path)).equals(await readFile(pack))).toBe(true);
    expect((await pullPack(`${registry.host}/m/labels@${digest}`, join(dir, 'folder'))).digest).toBe(digest);
  });

  test.each([
    ['basic', 2],
    ['bearer', 3],
  ] as const)('behind %s authentication', async (way, requests) => {
    registry = await startRegistry({ way, user: 'ann:pass:word' });
    await push({ credentials });
    // One refusal, then the same authorization for all.
    expect(registry.requests.filter((line) => !line.includes('labels') || line.split(' ').length === 2)).toHaveLength(
      requests - 1,
    );
    await mkdir(join(dir, 'docker'));
    const auth = Buffer.from('ann:pass:word').toString('base64');
    await writeFile(join(dir, 'docker/config.json'), JSON.stringify({ auths: { [registry.host]: { auth } } }));
    vi.stubEnv('DOCKER_CONFIG', join(dir, 'docker'));
    expect((await pull()).digest).toBe(digest);
  });
});

describe('connections that break', () => {
  test('an upload in chunks goes on where the registry has come to', async () => {
    registry = await startRegistry();
    const cuts = [10_000, 0, 30_000];
    registry.faults.cut = (method) => (method === 'PATCH' ? cuts.shift() : undefined);
    await push({ chunkBytes: 65_536 });
    expect(cuts).toEqual([]);
    expect((await pull()).digest).toBe(digest);
  });

  test('a download goes on where it was', async () => {
    registry = await startRegistry();
    await push();
    const cuts = [100_000, 50_000, 1];
    const large = [...registry.blobs].find(([, bytes]) => bytes.length === 300_000)?.[0] ?? '';
    registry.faults.cut = (_, path) => (path.includes(large) ? cuts.shift() : undefined);
    expect((await pull()).digest).toBe(digest);
    expect(registry.requests.filter((line) => line.startsWith('GET') && line.includes(large))).toHaveLength(4);
  });

  test('nobody there, or a registry that stays broken: one clear line, nothing written', async () => {
    registry = await startRegistry();
    registry.faults.status = () => 503;
    await expect(pull()).rejects.toMatchObject({
      code: 'pack/unreachable',
      message: expect.stringMatching(/HTTP 503 \(DENIED: not you\)$/),
    });
    await registry.close();
    await expect(push()).rejects.toMatchObject({ code: 'pack/unreachable' });
    expect(await readdir(dir)).toEqual(['labels.pack']);
  });
});

describe('what a registry says is not believed', () => {
  const small = (bytes: Uint8Array): Uint8Array => Uint8Array.from(bytes, (byte, at) => (at === 40 ? byte ^ 1 : byte));
  test.each<[string, string, (bytes: Uint8Array) => Uint8Array, string]>([
    ['an altered blob', '/blobs/', small, 'pack/digest-mismatch'],
    ['a blob that is cut', '/blobs/', (bytes) => bytes.subarray(1), 'pack/size-mismatch'],
    ['a blob without an end', '/blobs/', (bytes) => new Uint8Array(bytes.length * 3), 'pack/size-mismatch'],
    ['another manifest', '/manifests/', (bytes) => Buffer.from(`${Buffer.from(bytes).toString()}\n`), 'pack/manifest'],
    ['no manifest', '/manifests/', () => Buffer.from('{"layers":[]}'), 'pack/not-a-pack'],
    ['a huge one', '/manifests/', () => new Uint8Array(3 << 20), 'pack/registry'],
  ])('#37 %s is refused, and nothing is written', async (_, where, content, code) => {
    registry = await startRegistry();
    await push();
    registry.faults.content = (path, bytes) => (path.includes(where) ? content(bytes) : bytes);
    await expect(pull()).rejects.toMatchObject({ code });
    expect(await readdir(dir)).toEqual(['labels.pack']);
  });

  test('another pack than the pinned one, and one by a stranger', async () => {
    registry = await startRegistry();
    await push();
    const pinned = `${registry.host}/m/labels@sha256:${'0'.repeat(64)}`;
    registry.manifests.set(pinned.split('@')[1] ?? '', registry.manifests.get('v1') ?? new Uint8Array());
    await expect(pullPack(pinned, join(dir, 'back'))).rejects.toMatchObject({ code: 'pack/digest-mismatch' });
    const trusted = [generateKey().publicKey];
    await expect(pull({ trusted })).rejects.toMatchObject({ code: 'pack/untrusted' });
    expect(await readdir(dir)).toEqual(['labels.pack']);
  });

  test.each<[string, number, string]>([
    ['no such image', 404, 'pack/registry-missing'],
    ['not allowed', 403, 'pack/registry-auth'],
    ['refused', 400, 'pack/registry'],
  ])('%s: %i', async (_, status, code) => {
    registry = await startRegistry();
    registry.faults.status = (method) => (method === 'HEAD' ? undefined : status);
    await expect(push()).rejects.toMatchObject({ code, message: expect.stringContaining(`HTTP ${status}`) });
  });

  test('without or with wrong credentials: which registry, and how to give them', async () => {
    registry = await startRegistry({ way: 'bearer', user: 'ann:pass:word' });
    await expect(push()).rejects.toMatchObject({ code: 'pack/registry-auth', hint: expect.stringContaining('login') });
    await registry.close();
    registry = await startRegistry({ way: 'basic', user: 'ann:pass:word' });
    await expect(push()).rejects.toMatchObject({ code: 'pack/registry-auth' });
    const wrong = { username: 'ann', password: 'x' };
    await expect(push({ credentials: wrong })).rejects.toMatchObject({ code: 'pack/registry-auth' });
  });
});

test.each<[string, string]>([
  ['registry.example.com/models/labels:1.0', 'https://registry.example.com models/labels 1.0'],
  ['localhost:5000/labels', 'http://localhost:5000 labels latest'],
  ['[::1]:5000/labels:x', 'http://[::1]:5000 labels x'],
  ['http://10.0.0.7:5000/a/b__c', 'http://10.0.0.7:5000 a/b__c latest'],
  ['docker.io/ann/labels', 'https://registry-1.docker.io ann/labels latest'],
])('%s is read', (text, expected) => {
  const { origin, name: found, tag } = parseReference(text);
  expect(`${origin} ${found} ${tag}`).toBe(expected);
});

test.each(['labels', 'ann/labels:1', 'x.y/Labels', 'x.y/../etc', 'x.y/a@sha256:12', 'ftp://x.y/a', 'x.y/a b', ''])(
  '#26 %j is no reference',
  (text) => {
    expect(() => parseReference(text)).toThrow(expect.objectContaining({ code: 'pack/reference' }));
  },
);

test('a challenge is read; a token server in the clear is not asked by a registry behind TLS', () => {
  const { scheme, parameters } =
    parseChallenge('Bearer realm="https://a/t?x=1",scope="r:a:pull,push", service=b') ?? {};
  expect(scheme).toBe('bearer');
  expect(Object.fromEntries(parameters ?? [])).toEqual({
    realm: 'https://a/t?x=1',
    scope: 'r:a:pull,push',
    service: 'b',
  });
  expect(parseChallenge('Negotiate')).toBeUndefined();
});

test('credentials of docker login; a damaged file is said', async () => {
  expect(await dockerCredentials('x.y', { DOCKER_CONFIG: dir })).toBeUndefined();
  const auth = Buffer.from('a:b:c').toString('base64');
  const auths = { 'https://x.y': { auth }, empty: {} };
  await writeFile(join(dir, 'config.json'), JSON.stringify({ auths }));
  expect(await dockerCredentials('x.y', { DOCKER_CONFIG: dir })).toEqual({ username: 'a', password: 'b:c' });
  expect(await dockerCredentials('constructor', { DOCKER_CONFIG: dir })).toBeUndefined();
  await writeFile(join(dir, 'config.json'), 'nonsense');
  await expect(dockerCredentials('x.y', { DOCKER_CONFIG: dir })).rejects.toMatchObject({ code: 'pack/registry-auth' });
});
