import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { assemblePack, generateKey, openPack } from '@flotilla/pack';
import { LatencyRecorder, openSession, loadTokenizer, textGolden, TextModel } from '@flotilla/runtime';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { LoadedModel } from '@flotilla/agent';
import { runtimeEngine } from '../../packages/agent/src/runtime-engine.ts';
import { addOnePack, LLAMA, packOf } from '../../packages/runtime/test/packs.ts';

/** The agent's engine on the real runtime: what the agent's own tests make up is real here. */
let root: string;
const key = generateKey();
const never = new AbortController().signal;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'engine-'));
});
afterAll(() => rm(root, { recursive: true, force: true }));

/** A slot as the store would leave it. */
async function slotWith(packFile: string): Promise<string> {
  const slot = await mkdtemp(join(root, 'slot-'));
  await unpackAsLayout(packFile, join(slot, 'pack'));
  return slot;
}

async function unpackAsLayout(packFile: string, to: string): Promise<void> {
  const pack = await openPack(packFile);
  await mkdir(join(to, 'blobs', 'sha256'), { recursive: true });
  for (const { digest, bytes } of pack.blobs)
    await writeFile(join(to, 'blobs', 'sha256', digest.slice(7)), await pack.readBlob(digest, 0, bytes));
  await (await assemblePack(to, pack.digest)).close();
  await pack.close();
}

async function load(slot: string, board = 'raspberrypi-4b'): Promise<LoadedModel> {
  const engine = await runtimeEngine({ board, keyring: { packKeys: [key.publicKey] } });
  expect(engine.version).toMatch(/^\d+\.\d+\.\d+$/);
  return engine.load(slot, { signal: never });
}

test('a tensor model: golden vectors, latency on them, and a second start from the lowered file', async () => {
  const slot = await slotWith(await addOnePack(0, key));
  for (let start = 0; start < 2; start++) {
    const model = await load(slot);
    await model.golden(never);
    const measured = await model.measure(200, never);
    expect(measured.p50Us).toBeGreaterThanOrEqual(0);
    expect(LatencyRecorder.decode(measured.histogram).count).toBeGreaterThan(10);
    expect(measured.peakRssBytes).toBeGreaterThan(10e6);
    await expect(model.generate({ id: '', name: '', prompt: 'x', maxTokens: 1, benchMs: 0 }, never)).rejects.toThrow();
    await model.close();
  }
});

test('golden vectors that do not hold: the reason, and which output by how much', async () => {
  const model = await load(await slotWith(await addOnePack(7, key)));
  await expect(model.golden(never)).rejects.toMatchObject({
    reason: 'golden-mismatch',
    message: expect.stringMatching(/^case "large", output y: off by 7\.00, allowed 1\.00$/),
  });
  await model.close();
});

test('a class of board that the pack does not know, and a signature that is not trusted', async () => {
  const model = await load(await slotWith(await addOnePack(0, key)), 'raspberrypi-5');
  await expect(model.golden(never)).rejects.toMatchObject({ reason: 'board-unsupported' });
  await model.close();
  await expect(load(await slotWith(await addOnePack(0)))).rejects.toMatchObject({ reason: 'pack-signature' });
});

test('bytes that changed in the slot are noticed when it is loaded', async () => {
  const slot = await slotWith(await addOnePack(0, key));
  const folder = join(slot, 'pack', 'blobs', 'sha256');
  const [name = ''] = await readdir(folder);
  const bytes = await readFile(join(folder, name));
  bytes[0] = (bytes[0] ?? 0) ^ 1;
  await writeFile(join(folder, name), bytes);
  await expect(load(slot)).rejects.toMatchObject({ reason: expect.stringMatching(/^pack-/) });
});

test('a text model: answers, and its latency is that of a token', async () => {
  const bytes = new Uint8Array(await readFile(join(LLAMA, 'model.onnx')));
  const session = await openSession(join(LLAMA, 'model.onnx'));
  const files = new Map<string, Uint8Array>();
  for (const file of ['tokenizer.json', 'tokenizer_config.json', 'config.json'])
    files.set(file, new Uint8Array(await readFile(join(LLAMA, file))));
  const golden = await textGolden(new TextModel(session, loadTokenizer(files)), ['a small boat'], { maxTokens: 8 });
  await session.close();
  const tolerance = { atol: 0.01, rtol: 0.01 };
  const pack = await packOf(bytes, 'text', golden, { x64: tolerance, 'x64-vnni': tolerance, arm64: tolerance }, key);
  const model = await load(await slotWith(pack), 'host');
  expect(model.task).toBe('text');
  await model.golden(never);
  const made = await model.generate({ id: '', name: '', prompt: 'a small boat', maxTokens: 8, benchMs: 0 }, never);
  expect(made.tokens).toBeGreaterThan(0);
  const measured = await model.measure(300, never);
  expect(measured.p50Us).toBeGreaterThan(50);
  expect(LatencyRecorder.decode(measured.histogram).count).toBeGreaterThan(5);
  await model.close();
});
