import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildModel, tensorFromFloats, tensorInfo, writeModel } from '@flotilla/onnx';
import { expect, test } from 'vitest';
import { progressLine } from '../src/progress.ts';

const program = fileURLToPath(new URL('../dist/main.js', import.meta.url));

test('Ctrl-C in the middle of a compilation: exit code 130, and nothing is left', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'interrupt-'));
  const model = join(dir, 'net.onnx');
  const w = Float32Array.from({ length: 64 * 96 }, (_, i) => Math.sin(i));
  await writeModel(
    buildModel({
      opset: 21,
      inputs: [tensorInfo('x', 'float32', [1, 64])],
      outputs: [tensorInfo('y', 'float32', [1, 96])],
      nodes: [{ opType: 'MatMul', name: 'product', inputs: ['x', 'w'], outputs: ['y'] }],
      initializers: { w: tensorFromFloats([64, 96], w) },
    }),
    model,
  );
  // A data set that presses Ctrl-C and waits until that has arrived.
  await writeFile(
    join(dir, 'data.mjs'),
    `export default (async function* () {
       for (let i = 0; i < 40; i++) {
         if (i === 3) {
           const arrived = new Promise((resolve) => process.once('SIGINT', resolve));
           process.kill(process.pid, 'SIGINT');
           await arrived;
         }
         yield { inputs: { x: { dtype: 'float32', dims: [1, 64], data: new Float32Array(64).fill(i) } } };
       }
     })();`,
  );
  const asked = ['compile', model, '-o', join(dir, 'net.pack'), '--weights', 'int4', '--data', join(dir, 'data.mjs')];
  const child = spawn(process.execPath, [program, ...asked], { stdio: 'ignore' });
  const [code] = (await once(child, 'exit')) as [number | null];
  expect(code).toBe(130);
  expect((await readdir(dir)).toSorted()).toEqual(['data.mjs', 'net.onnx']);
  await rm(dir, { recursive: true });
});

test('progress says what is done of how much, and the time left at the pace so far', () => {
  const progress = { step: 'convert-int4', done: 1e9, total: 4e9, unit: 'bytes' } as const;
  expect(progressLine(progress, 20_000)).toMatch(/25 % convert-int4, .* of .*, 60 s left$/);
  expect(progressLine({ ...progress, done: 4e9 }, 80_000)).not.toContain('left');
  expect(progressLine({ step: 'load', done: 3, total: undefined }, 20_000)).toBe('load 3');
});
