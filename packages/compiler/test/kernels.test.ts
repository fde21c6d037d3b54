import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  buildModel,
  encodeModel,
  type Model,
  type NewGraph,
  type NewTensor,
  type Tensor,
  tensorFromFloats,
  tensorInfo,
} from '@flotilla/onnx';
import { quantizeInt4, quantizeInt8 } from '@flotilla/quant';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { applyRecipe, parseRecipe } from '../src/index.ts';
import { Kernels } from '../src/kernels/kernels.ts';
import { build, node, noise } from './small-models.ts';

let dir = '';
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'kernels-'));
});
afterAll(() => rm(dir, { recursive: true }));

/** Three slabs of `[cols, inner]`, the last one short: more than is done without threads. */
const [COLS, INNER] = [2080, 1024];
const options = {
  block: 32,
  symmetric: false,
  clip: 'none',
  bf16Scales: false,
  cross: undefined,
  sweeps: 0,
  hessian: undefined,
  importance: undefined,
} as const;

function weight(): { readonly tensor: Tensor; readonly w: Float32Array } {
  const given = noise([COLS, INNER]);
  const tensor = build([node('MatMul', ['x', 'w'])], { w: given }, [1, COLS]).graph.constant('w');
  if (!tensor) throw new Error('no weight');
  return { tensor, w: new Float32Array(given.bytes.slice().buffer) };
}

const bytesOf = (made: readonly NewTensor[]): string[] =>
  made.map(({ bytes }) => Buffer.from(bytes).toString('base64'));

test('two threads, a file and one thread in memory give the bytes of the kernel on the whole weight', async () => {
  const { tensor, w } = weight();
  const two = new Kernels({ threads: 2, folder: dir });
  const one = new Kernels();
  try {
    const whole = quantizeInt4(w, { rows: 1, cols: COLS, inner: INNER, ...options });
    const expected = [whole.q, new Uint8Array(whole.scale.buffer), whole.zeroPoint ?? new Uint8Array()];
    const wanted = expected.map((bytes) => Buffer.from(bytes).toString('base64'));
    expect(bytesOf(await two.int4('a', tensor, 0, options))).toEqual(wanted);
    expect(bytesOf(await one.int4('a', tensor, 0, options))).toEqual(wanted);
    const rows = quantizeInt8(w, INNER, { inner: 1 });
    const eight = [rows.q, rows.scale].map(({ buffer }) => Buffer.from(buffer).toString('base64'));
    expect(bytesOf(await two.int8('b', tensor, 1))).toEqual(eight);
    expect(bytesOf(await one.int8('b', tensor, 1))).toEqual(eight);
  } finally {
    await two.close();
  }
  // What is finished is found again, and nothing half-written under a final name.
  expect((await readdir(dir)).every((name) => /^weight-[0-9a-f]+$/.test(name))).toBe(true);
  const again = new Kernels({ folder: dir });
  expect(bytesOf(await again.int4('a', tensor, 0, options))).toEqual(bytesOf(await one.int4('a', tensor, 0, options)));
  expect(again.resumedBytes).toBeGreaterThan(1e6);
});

test('weights of one name in two branches have a form each', async () => {
  const folder = await mkdtemp(join(dir, 'branches-'));
  const recipe = parseRecipe('name: int4\npasses: [{ pass: convert-int4 }]');
  const { model } = await applyRecipe(branches(), recipe, { kernels: new Kernels({ folder }) });
  expect((await readdir(folder)).length).toBe(2);
  const inMemory = await applyRecipe(branches(), recipe);
  expect(encodeModel(model)).toEqual(encodeModel(inMemory.model));
});

/** One weight, and in the other branch its negative. */
function branches(): Model {
  const given = noise([600, 1024]);
  const w = new Float32Array(given.bytes.slice().buffer);
  const branch = (name: string, weight: Float32Array): NewGraph => ({
    name,
    inputs: [],
    outputs: [tensorInfo(`${name}_y`, 'float32', undefined)],
    nodes: [node('MatMul', ['x', 'w'], {}, `${name}_y`, name)],
    initializers: { w: tensorFromFloats([600, 1024], weight) },
  });
  const attributes = {
    then_branch: { graph: branch('plus', w) },
    else_branch: {
      graph: branch(
        'minus',
        w.map((value) => -value),
      ),
    },
  };
  return buildModel({
    opset: 21,
    inputs: [tensorInfo('x', 'float32', [1, 600]), tensorInfo('choice', 'bool', [])],
    outputs: [tensorInfo('y', 'float32', undefined)],
    nodes: [node('If', ['choice'], attributes)],
  });
}
