import { mkdtemp, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Board, loadBoard } from '@flotilla/boards';
import { generateKey, openPack } from '@flotilla/pack';
import { loadTokenizer, openRuntime, openSession, textGolden, TextModel } from '@flotilla/runtime';
import { beforeAll, describe, expect, test } from 'vitest';
import { addOnePack, int4Llama, LLAMA, packOf } from './packs.ts';
import { addOne, loop, saved } from './tiny-models.ts';

let x64: Board;
beforeAll(async () => {
  x64 = { ...(await loadBoard('host')), name: 'x64', boardClass: 'x64' };
});
const temporary = () => mkdtemp(join(tmpdir(), 'runtime-'));
const x = (...data: number[]) => ({ x: { dtype: 'float32' as const, dims: [1, 2], data: Float32Array.from(data) } });

describe.each([true, false])('a tensor pack, isolated: %s', (isolate) => {
  test('is opened, run and judged', async () => {
    const runtime = await openRuntime(await addOnePack(), { board: x64, isolate });
    expect([...((await runtime.run(x(1, 2)))['y']?.data ?? [])]).toEqual([2, 3]);
    expect(await runtime.golden()).toMatchObject({ ok: true, cases: 2, worst: { error: 0 } });
    expect(() => runtime.text()).toThrow(expect.objectContaining({ code: 'runtime/not-text' }));
    await runtime.close();
    await expect(runtime.run(x(1, 2))).rejects.toMatchObject({ code: 'runtime/closed' });
  });
});

test('golden vectors that are missed name the case, the output, and by how much', async () => {
  const pack = await addOnePack(0.5);
  const strict = await openRuntime(pack, { board: x64, isolate: false });
  expect(await strict.golden()).toEqual({
    ok: false,
    cases: 2,
    worst: { case: 'large', output: 'y', error: 0.5, allowed: expect.closeTo(0.1005, 6) },
  });
  const lenient = await openRuntime(pack, { board: 'raspberrypi-4b', isolate: false }); // atol 1 for arm64
  expect((await lenient.golden()).ok).toBe(true);
  await Promise.all([strict.close(), lenient.close()]);
});

test('a board of a class without a tolerance is refused', async () => {
  const runtime = await openRuntime(await addOnePack(), { board: 'raspberrypi-5', isolate: false });
  await expect(runtime.golden()).rejects.toMatchObject({
    code: 'runtime/pack',
    message: expect.stringContaining('arm64-dotprod'),
  });
  await runtime.close();
});

test('a NaN is never within tolerance', async () => {
  const nan = { dtype: 'float32' as const, dims: [1, 2], data: Float32Array.of(Number.NaN, 1) };
  const golden = [{ name: 'nan', inputs: { x: nan }, outputs: { y: { ...nan, data: Float32Array.of(1, 2) } } }];
  const pack = await packOf(addOne, 'tensor', golden, { x64: { atol: 1e9, rtol: 1 } });
  const runtime = await openRuntime(pack, { board: x64, isolate: false });
  expect(await runtime.golden()).toMatchObject({ ok: false, worst: { error: Number.POSITIVE_INFINITY } });
  await runtime.close();
});

test('only trusted keys', async () => {
  const [ours, theirs] = [generateKey(), generateKey()];
  const pack = await addOnePack(0, ours);
  await (await openRuntime(pack, { board: x64, trusted: [ours.publicKey], isolate: false })).close();
  await expect(openRuntime(pack, { board: x64, trusted: [theirs.publicKey] })).rejects.toMatchObject({
    name: 'PackError',
  });
});

test('a model that cannot be parsed, lowered or loaded is refused, and leaves nothing behind', async () => {
  const cacheDir = await temporary();
  for (const isolate of [true, false]) {
    const pack = await packOf(Buffer.from('not a model'), 'tensor', null, {});
    await expect(openRuntime(pack, { board: x64, cacheDir, isolate })).rejects.toMatchObject({
      code: expect.stringMatching(/^(runtime\/load|onnx\/)/),
    });
  }
  expect(await readdir(cacheDir)).toEqual([]);
  await expect(openRuntime(await packOf(loop, 'text', null, {}), { board: x64 })).rejects.toMatchObject({
    code: 'runtime/not-text',
  });
});

describe('the language model with 4-bit weights', () => {
  let pack: string;
  const prompt = 'volt: a unit of';

  beforeAll(async () => {
    const model = await int4Llama();
    const session = await openSession(await saved(model), { optimization: 'disabled' }); // as the portable graph says
    const names = ['tokenizer.json', 'tokenizer_config.json', 'config.json'];
    const files = await Promise.all(names.map(async (name) => [name, await readFile(join(LLAMA, name))] as const));
    const text = new TextModel(session, loadTokenizer(new Map(files)));
    const golden = await textGolden(text, [prompt, 'conveyor belt: a moving belt that'], { maxTokens: 12 });
    await session.close();
    const tolerance = { atol: 0, rtol: 0.05 }; // int4 itself is 0.07 off
    pack = await packOf(model, 'text', golden, {
      x64: tolerance,
      arm64: tolerance,
      'arm64-dotprod': { atol: 0, rtol: 1e-9 },
    });
  });

  test.each([
    ['x64', 'MatMulNBits'],
    ['raspberrypi-4b', 'DynamicQuantizeMatMul'],
  ])('agrees on %s with the portable graph, through %s', async (name, kernel) => {
    const runtime = await openRuntime(pack, { board: name === 'x64' ? x64 : name });
    expect(new Set(runtime.choices.map((choice) => choice.kernel))).toEqual(
      new Set([kernel, 'GroupQueryAttention', 'SimplifiedLayerNormalization', 'SkipSimplifiedLayerNormalization']),
    );
    const report = await runtime.golden();
    expect(report).toMatchObject({ ok: true, cases: 2 });
    expect(report.worst?.error).toBeGreaterThan(0);
    await runtime.close();
  });

  test('fails a tolerance that no int8 activation can hold', async () => {
    const runtime = await openRuntime(pack, { board: 'raspberrypi-5', isolate: false });
    expect((await runtime.golden()).ok).toBe(false);
    await runtime.close();
  });

  test('is lowered once per board, and again where the cache is damaged', async () => {
    const cacheDir = await temporary();
    const options = { board: x64, cacheDir, isolate: false };
    const open = async (board: Board | string) => {
      const runtime = await openRuntime(pack, { ...options, board });
      const { ok } = await runtime.golden();
      await runtime.close();
      return ok;
    };
    expect(await open(x64)).toBe(true);
    const [entry = ''] = await readdir(cacheDir);
    expect((await readdir(join(cacheDir, entry))).toSorted()).toEqual(['lowered.json', 'model.data', 'model.onnx']);
    const { ino } = await stat(join(cacheDir, entry, 'model.onnx'));
    expect(await open(x64)).toBe(true);
    expect((await stat(join(cacheDir, entry, 'model.onnx'))).ino).toBe(ino); // from the cache
    for (const name of ['model.data', 'lowered.json']) {
      const path = join(cacheDir, entry, name);
      const bytes = await readFile(path);
      bytes.fill(0, bytes.length >> 1);
      await writeFile(path, bytes);
      expect(await open(x64)).toBe(true);
      expect(await readFile(path)).not.toEqual(bytes);
    }
    expect(await open('raspberrypi-4b')).toBe(true);
    expect(await readdir(cacheDir)).toHaveLength(2);
  });

  test('cannot be lowered where nothing can be written, and says so', async () => {
    const blocked = join(await temporary(), 'file');
    await writeFile(blocked, '');
    await expect(openRuntime(pack, { board: x64, cacheDir: join(blocked, 'cache') })).rejects.toMatchObject({
      code: 'runtime/cache',
      message: expect.stringContaining('ENOTDIR'),
    });
  });

  test('given open, stays the caller’s to close', async () => {
    const open = await openPack(pack);
    const runtime = await openRuntime(open, { board: x64, isolate: false });
    await runtime.close();
    expect((await open.file('config.json')).length).toBeGreaterThan(10);
    await open.close();
  });
});
