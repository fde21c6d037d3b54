import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { createPack, verifyPack } from '../src/index.ts';
import { contents, scratch } from './sample.ts';

/** Writes the same pack over and over, each time under another name inside. */
const program = `
  import { createPack } from '@flotilla/pack';
  const source = new Uint8Array(8 << 20);
  console.log('ready');
  for (let n = 0; ; n++)
    await createPack(process.argv[1], {
      name: 'n' + n, task: 'tensor', weights: 'int8', parameters: 1, sourceBytes: 1, golden: null, latencyBudgetUs: {},
      annotations: {}, files: [{ path: 'model.onnx', role: 'model', source }],
    });
`;

test('kill -9 while a pack is replaced leaves the old or the new one, and the next writer cleans up', async () => {
  const dir = await scratch();
  const out = join(dir, 'x.pack');
  await createPack(out, contents);
  for (const ms of [0, 3, 10, 30, 55, 80]) {
    const child = spawn(process.execPath, ['--input-type=module', '-e', program, out], {
      cwd: import.meta.dirname,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(child.stdout, 'data');
    await sleep(ms);
    child.kill('SIGKILL');
    await once(child, 'exit');
    await expect(verifyPack(out)).resolves.toMatchObject({ files: expect.any(Number) });
  }
  await createPack(out, contents);
  expect(await readdir(dir)).toEqual(['x.pack']);
});
