import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildModel, type NewModel, tensorFromFloats, tensorInfo, writeModel } from '@flotilla/onnx';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openSource } from '../src/compile/source.ts';

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'source-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

const half: Pick<NewModel, 'nodes' | 'initializers'> = {
  nodes: [
    { opType: 'Cast', inputs: ['w'], outputs: ['wide'], attributes: { to: { int: 1 } } },
    { opType: 'MatMul', inputs: ['x', 'wide'], outputs: ['y'] },
  ],
  initializers: { w: { dtype: 'float16', dims: [4, 4], bytes: new Uint8Array(32) } },
};
const dynamic: Pick<NewModel, 'nodes' | 'initializers'> = {
  nodes: [
    { opType: 'DynamicQuantizeMatMul', domain: 'com.microsoft', name: 'fast', inputs: ['x', 'q', 's'], outputs: ['y'] },
  ],
  initializers: {
    q: { dtype: 'int8', dims: [4, 4], bytes: new Uint8Array(16) },
    s: tensorFromFloats([1], Float32Array.of(1)),
  },
};

test.each([
  ['half precision', half, /holds its weights in half precision/],
  ['integers', dynamic, /is quantized already: node fast is DynamicQuantizeMatMul/],
])('a model of %s is refused in words', async (name, parts, message) => {
  const path = join(dir, `${name}.onnx`);
  const x = tensorInfo('x', 'float32', [1, 4]);
  await writeModel(buildModel({ opset: 21, inputs: [x], outputs: [{ name: 'y', type: undefined }], ...parts }), path);
  await expect(openSource(path, undefined)).rejects.toMatchObject({ code: 'compiler/not-yet', where: path });
  await expect(openSource(path, undefined)).rejects.toThrow(message);
});
