import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compile } from '@flotilla/compiler';
import { buildModel, type Model, tensorFromFloats, tensorInfo, writeModel } from '@flotilla/onnx';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { seededRandom } from '../src/calibrate/seeded-random.ts';

/** A weight's 4-bit form of this size goes to a file of its own; from the third one on threads work. */
const SIDE = 768;
const LAYERS = 4;
const built = new URL('../dist/index.js', import.meta.url).href;

let dir = '';
let model = '';
let expected = '';
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'resume-'));
  model = join(dir, 'net.onnx');
  await writeModel(layers(), model);
  const report = await compile(model, join(dir, 'expected.onnx'), { ...options, threads: 1 });
  expect(report.resumedBytes).toBe(0);
  expected = await digestOf('expected.onnx');
});
afterAll(() => rm(dir, { recursive: true }));

const options = { weights: 'int4', block: 64, latencySeconds: 0, force: true } as const;

test('a run that is killed leaves its finished weights, and the next one with resume ends with the same bytes', async () => {
  const [, signal] = await runAndSend('SIGKILL', 'killed.onnx', {});
  expect(signal).toBe('SIGKILL');
  expect(await outputs('killed.onnx')).toEqual([]);
  const report = await compile(model, join(dir, 'killed.onnx'), { ...options, threads: 2, resume: true });
  expect(report.resumedBytes).toBeGreaterThan((SIDE * SIDE) / 2);
  expect(await digestOf('killed.onnx')).toBe(expected);
  expect(await workFolders()).toEqual([]);
});

test('without resume nothing of a killed run is taken', async () => {
  await runAndSend('SIGKILL', 'again.onnx', {});
  expect(await workFolders()).toHaveLength(1);
  const report = await compile(model, join(dir, 'again.onnx'), { ...options, threads: 2 });
  expect(report.resumedBytes).toBe(0);
  expect(await digestOf('again.onnx')).toBe(expected);
  expect(await workFolders()).toEqual([]);
});

test('an interrupted run leaves nothing; with resume, what is finished', async () => {
  const stopped = (resume: boolean): Promise<unknown> => {
    const controller = new AbortController();
    const onProgress = ({ unit }: { unit?: 'bytes' | undefined }): void => {
      if (unit === 'bytes') controller.abort(new DOMException('interrupted', 'AbortError'));
    };
    const { signal } = controller;
    return compile(model, join(dir, 'stopped.onnx'), { ...options, threads: 2, resume, signal, onProgress });
  };
  await expect(stopped(false)).rejects.toThrow('interrupted');
  expect([...(await outputs('stopped.onnx')), ...(await workFolders())]).toEqual([]);
  await expect(stopped(true)).rejects.toThrow('interrupted');
  const [kept = ''] = await workFolders();
  expect((await readdir(join(dir, kept))).filter((name) => !/^(weight-[0-9a-f]+|owner\.json)$/.test(name))).toEqual([]);
  expect(await outputs('stopped.onnx')).toEqual([]);
  await rm(join(dir, kept), { recursive: true });
});

/** Runs a compilation in a process that sends itself the signal when its second weight is done. */
async function runAndSend(signal: NodeJS.Signals, name: string, more: object): Promise<[number | null, string | null]> {
  const script = join(dir, 'run.mjs');
  const asked = JSON.stringify({ ...options, ...more, threads: 2 });
  await writeFile(
    script,
    `import { compile } from ${JSON.stringify(built)};
     let seen = 0;
     const onProgress = ({ unit }) => unit === 'bytes' && ++seen === 2 && process.kill(process.pid, '${signal}');
     await compile(${JSON.stringify(model)}, ${JSON.stringify(join(dir, name))}, { ...${asked}, onProgress });`,
  );
  const child = spawn(process.execPath, [script], { stdio: 'ignore' });
  return (await once(child, 'exit')) as [number | null, string | null];
}

const outputs = async (name: string): Promise<string[]> => (await readdir(dir)).filter((found) => found.includes(name));
const workFolders = async (): Promise<string[]> =>
  (await readdir(dir)).filter((found) => found.startsWith('.flotilla-compile-'));

/** Each its own weights, so that none are merged. */
function layers(): Model {
  const random = seededRandom(3);
  const names = Array.from({ length: LAYERS + 1 }, (_, i) => (i === 0 ? 'x' : i === LAYERS ? 'y' : `h${i}`));
  return buildModel({
    opset: 21,
    inputs: [tensorInfo('x', 'float32', [1, SIDE])],
    outputs: [tensorInfo('y', 'float32', [1, SIDE])],
    nodes: names.slice(1).map((output, i) => ({
      opType: 'MatMul',
      name: output,
      inputs: [names[i] ?? '', `w${i}`],
      outputs: [output],
    })),
    initializers: Object.fromEntries(
      names.slice(1).map((_, i) => {
        const w = Float32Array.from({ length: SIDE * SIDE }, () => (random() - 0.5) / 16);
        return [`w${i}`, tensorFromFloats([SIDE, SIDE], w)];
      }),
    ),
  });
}

async function digestOf(name: string): Promise<string> {
  return createHash('sha256')
    .update(await readFile(join(dir, name)))
    .digest('hex');
}
