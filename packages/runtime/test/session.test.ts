import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { type LoadedSession, openSession, spawnSession, type Tensors } from '@flotilla/runtime';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { addOne, loop, saved, sequence, zeros } from './tiny-models.ts';

const x = (...values: number[]): Tensors => ({
  x: { dtype: 'float32', dims: [values.length / 2, 2], data: Float32Array.from(values) },
});
const turns = (count: bigint): Tensors => ({
  count: { dtype: 'int64', dims: [], data: BigInt64Array.of(count) },
  x: { dtype: 'float32', dims: [], data: Float32Array.of(0) },
});
const FOREVER = 2n ** 62n;

describe.each([
  ['in this process', openSession],
  ['in a child', spawnSession],
])('a session %s', (_, open) => {
  let session: LoadedSession;
  beforeAll(async () => {
    session = await open(await saved(addOne));
  });
  afterAll(() => session.close());

  test('says what it takes and gives', () => {
    expect(session.inputs).toEqual([{ name: 'x', dtype: 'float32', dims: ['N', 2] }]);
    expect(session.outputs).toEqual([{ name: 'y', dtype: 'float32', dims: ['N', 2] }]);
  });

  test('runs, also several times at once', async () => {
    const results = await Promise.all([x(1, 2), x(3, 4), x(5, 6, 7, 8)].map((feeds) => session.run(feeds)));
    expect(results.map(({ y }) => [...(y?.data ?? [])])).toEqual([
      [2, 3],
      [4, 5],
      [6, 7, 8, 9],
    ]);
    expect(results[2]?.['y']?.dims).toEqual([2, 2]);
  });

  test.each<[string, Tensors]>([
    ['missing', {}],
    ['unknown', { ...x(1, 2), z: { dtype: 'float32', dims: [0], data: new Float32Array(0) } }],
    ['of another type', { x: { dtype: 'int32', dims: [1, 2], data: Int32Array.of(1, 2) } }],
    ['of another shape', { x: { dtype: 'float32', dims: [2, 1], data: Float32Array.of(1, 2) } }],
    ['of another rank', { x: { dtype: 'float32', dims: [2], data: Float32Array.of(1, 2) } }],
    ['too short', { x: { dtype: 'float32', dims: [4, 2], data: Float32Array.of(1, 2) } }],
    ['of negative size', { x: { dtype: 'float32', dims: [-1, 2], data: Float32Array.of(1, 2) } }],
  ])('refuses an input that is %s', async (_kind, feeds) => {
    await expect(session.run(feeds)).rejects.toMatchObject({ name: 'RuntimeError', code: 'runtime/input' });
  });

  test('names an output that is no tensor, and how to do without it', async () => {
    const foreign = await open(await saved(sequence));
    const told = { code: 'runtime/run', message: expect.stringContaining('output s'), hint: expect.any(String) };
    await expect(foreign.run(x(1, 2))).rejects.toMatchObject(told);
    await foreign.close();
  });

  test('measures: counts, percentiles, and stops when told to', async () => {
    const { latency, seconds } = await session.measure([x(1, 2)], { seconds: 0.2 });
    expect(latency.count).toBeGreaterThan(130);
    expect(seconds).toBeGreaterThanOrEqual(0.2);
    expect(latency.summary().p95Us).toBeGreaterThan(0);
    const stop = AbortSignal.timeout(100);
    await expect(session.measure([x(1, 2)], { seconds: 60, signal: stop })).rejects.toThrow('timeout');
    expect((await session.measure([x(1, 2)], { maxRuns: 7 })).latency.count).toBe(7);
  });

  test('states three different memories', async () => {
    const { peakRssBytes, pssBytes, weightsBytes } = await session.memory();
    expect(peakRssBytes).toBeGreaterThan(20e6);
    expect(weightsBytes).toBeLessThan(100_000);
    if (process.platform === 'linux') expect(pssBytes).toBeGreaterThan(10e6);
  });

  test.each<[string, Uint8Array | undefined]>([
    ['empty', Buffer.alloc(0)],
    ['text', Buffer.from('not a model')],
    ['half a model', addOne.subarray(0, addOne.length / 2)],
    ['missing', undefined],
  ])('refuses to load a file that is %s', async (_kind, bytes) => {
    await expect(open(bytes ? await saved(bytes) : '/nowhere/model.onnx')).rejects.toMatchObject({
      code: 'runtime/load',
    });
  });

  test('is of no use once closed', async () => {
    const other = await open(await saved(addOne));
    await other.close();
    await other.close();
    await expect(other.run(x(1, 2))).rejects.toMatchObject({ code: 'runtime/closed' });
  });
});

describe('a child', () => {
  test('that hangs is ended by the watchdog, and blocks nobody meanwhile', async () => {
    const session = await spawnSession(await saved(loop), { timeoutMs: 1000 });
    expect((await session.run(turns(5n)))['y']?.data[0]).toBe(5);
    let ticks = 0;
    const timer = setInterval(() => ticks++, 10);
    await expect(session.run(turns(FOREVER))).rejects.toMatchObject({ code: 'runtime/timeout' });
    clearInterval(timer);
    expect(ticks).toBeGreaterThan(10);
    expect(isAlive(session.pid)).toBe(false);
    await expect(session.run(turns(1n))).rejects.toMatchObject({ code: 'runtime/timeout' });
  });

  test('that does not start in its time is ended', async () => {
    const opening = spawnSession(await saved(addOne), { loadTimeoutMs: 1 });
    await expect(opening).rejects.toMatchObject({ code: 'runtime/timeout', message: expect.stringContaining('start') });
  });

  test('whose start is aborted is ended', async () => {
    const opening = spawnSession(await saved(addOne), { signal: AbortSignal.timeout(5) });
    await expect(opening).rejects.toThrow('timeout');
  });

  test('that is killed in the middle of a run is a typed error', async () => {
    const session = await spawnSession(await saved(loop));
    const running = session.run(turns(FOREVER));
    await sleep(100);
    process.kill(session.pid ?? 0, 'SIGKILL');
    await expect(running).rejects.toMatchObject({
      code: 'runtime/crashed',
      message: expect.stringContaining('SIGKILL'),
    });
  });

  test('that eats memory is ended at its cap', async () => {
    const session = await spawnSession(await saved(zeros), { memoryCapBytes: 400e6 });
    const shape = (length: bigint): Tensors => ({
      shape: { dtype: 'int64', dims: [1], data: BigInt64Array.of(length) },
    });
    expect((await session.run(shape(10n)))['y']?.dims).toEqual([10]);
    await expect(session.run(shape(2n ** 30n))).rejects.toMatchObject({ code: 'runtime/memory' });
  });

  test('whose run is aborted is ended; one that waits is only taken back', async () => {
    const session = await spawnSession(await saved(loop));
    const stop = new AbortController();
    const running = session.run(turns(FOREVER), { signal: stop.signal });
    const waiting = session.run(turns(1n));
    setTimeout(() => stop.abort(new Error('enough')), 100);
    await expect(running).rejects.toThrow('enough');
    await expect(waiting).rejects.toThrow('enough');
    await session.close();
  });

  test('is ended by close, with what is under way', async () => {
    const session = await spawnSession(await saved(loop));
    const running = session.run(turns(FOREVER));
    setTimeout(() => void session.close(), 50);
    await expect(running).rejects.toMatchObject({ code: 'runtime/closed' });
    expect(isAlive(session.pid)).toBe(false);
  });

  test('dies with its parent, also in the middle of a run', async () => {
    const parent = spawn(process.execPath, [
      '--input-type=module',
      '-e',
      `import { spawnSession } from ${JSON.stringify(new URL('../dist/index.js', import.meta.url).href)};
       const session = await spawnSession(${JSON.stringify(await saved(loop))});
       console.log(session.pid);
       await session.run({ count: { dtype: 'int64', dims: [], data: BigInt64Array.of(2n ** 62n) },
         x: { dtype: 'float32', dims: [], data: Float32Array.of(0) } });`,
    ]);
    const pid = Number(await new Promise((resolve) => parent.stdout.once('data', resolve)));
    await sleep(200);
    expect(isAlive(pid)).toBe(true);
    parent.kill('SIGKILL');
    for (let i = 0; i < 100 && isAlive(pid); i++) await sleep(20);
    expect(isAlive(pid)).toBe(false);
  });

  test('is refused where the program that starts it is missing', async () => {
    process.env['FLOTILLA_NODE'] = '/nowhere/node';
    try {
      await expect(spawnSession(await saved(addOne))).rejects.toMatchObject({ code: 'runtime/crashed' });
    } finally {
      delete process.env['FLOTILLA_NODE'];
    }
  });

  test('is what the kernel ends first when the machine runs out of memory', async () => {
    if (process.platform !== 'linux') return;
    const session = await spawnSession(await saved(addOne));
    expect(Number(await readFile(`/proc/${session.pid}/oom_score_adj`, 'utf8'))).toBe(500);
    await session.close();
  });
});

function isAlive(pid: number | undefined): boolean {
  try {
    return pid !== undefined && process.kill(pid, 0);
  } catch {
    return false;
  }
}
