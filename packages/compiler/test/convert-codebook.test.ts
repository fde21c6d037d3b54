import { type Board, boardClassOf, type BoardClass, listBoards } from '@flotilla/boards';
import { type Lowered, lowerModel } from '@flotilla/lowering';
import { encodeModel, floats, type Model, type Node, tensorFromInts } from '@flotilla/onnx';
import { dequantizeFourBit, nestAbsMax, quantizeFourBit, unnestAbsMax } from '@flotilla/quant';
import { openSession, type TensorValue } from '@flotilla/runtime';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Kernels } from '../src/kernels/kernels.ts';
import type { PassContext } from '../src/pass.ts';
import { convertCodebook } from '../src/passes/convert-codebook.ts';
import { convertFp16 } from '../src/passes/convert-fp16.ts';
import { build, energy, input, node, noise } from './small-models.ts';

let dir = '';
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'codebook-'));
});
afterAll(() => rm(dir, { recursive: true }));

const [anyBoard] = (await listBoards()) as [Board];
const CLASSES: readonly BoardClass[] = ['x64', 'x64-vnni', 'arm64', 'arm64-dotprod'];

describe.each([
  ['nf4', true],
  ['fp4', false],
] as const)('%s, nested maxima: %s', (format, nested) => {
  const options = { format, nested, block: 64, head: 'int4' };

  test('a MatMul multiplies by exactly what bitsandbytes would read, and 8-bit kernels come near it', async () => {
    const made = () => build([node('MatMul', ['x', 'w'])], { w: noise([128, 48]) }, [2, 128]);
    const model = made();
    expect(await convert(model, options)).toEqual([expect.stringContaining(`${format}, blocks of 64`)]);
    const [y] = [await run(model, [2, 128])];
    const expected = await run(withWeight(made(), storedAndRead([128, 48], options)), [2, 128]);
    expect(distance(y, expected)).toBeLessThan(1e-6);
    for (const boardClass of CLASSES) {
      const lowered = lowerModel(model, boardOf(boardClass));
      const kernel = boardClass === 'arm64' ? 'DynamicQuantizeMatMul' : 'MatMulNBits';
      expect(lowered.choices.map((choice) => choice.kernel)).toEqual([kernel]);
      expect(lowered.model.graph.nodes).toHaveLength(1);
      expect(distance(await run(lowered.model, [2, 128], lowered.session), expected)).toBeLessThan(0.012);
    }
  });

  test('a Gemm, an embedding and a convolution', async () => {
    for (const [made, weight, dims, kernel] of [
      [node('Gemm', ['x', 'w'], { transB: { int: 1 } }), [48, 64], [3, 64], 'MatMulNBits'],
      [node('Gather', ['w', 'ids']), [100, 64], [1], 'GatherBlockQuantized'],
      [node('Conv', ['x', 'w']), [8, 32, 3, 3], [1, 32, 5, 5], undefined],
    ] as const) {
      const ids = tensorFromInts('int64', [2], [1, 99]);
      const make = () => build([made], { w: noise([...weight]), ids }, [...dims]);
      const before = await run(make(), [...dims]);
      const model = make();
      await convert(model, options);
      const portable = await run(model, [...dims]);
      expect(distance(portable, before)).toBeLessThan(0.15);
      const lowered = lowerModel(model, boardOf('x64'));
      expect(lowered.choices[0]?.kernel).toBe(kernel);
      expect(lowered.model.graph.nodes).toHaveLength(1);
      expect(distance(await run(lowered.model, [...dims]), portable)).toBeLessThan(kernel ? 0.012 : 1e-6);
    }
  });
});

test('weights that are no whole number of blocks are int8', async () => {
  const model = build([node('MatMul', ['x', 'w'])], { w: noise([40, 27]) }, [2, 40]);
  expect(await convert(model, { head: 'int4' })).toEqual([
    'int8 per channel: 1080 weights are no whole number of blocks',
  ]);
});

describe('fp16', () => {
  test('half the bytes, float arithmetic, one cast for two readers', async () => {
    const nodes = [node('MatMul', ['x', 'w'], {}, 'a', 'first'), node('MatMul', ['a', 'w'])];
    const make = () => build(nodes, { w: noise([64, 64]) }, [2, 64]);
    const model = make();
    expect(await convert(model, {}, convertFp16)).toEqual(['fp16', 'fp16']);
    expect([...model.graph.walk()].map(({ opType }) => opType)).toEqual(['Cast', 'MatMul', 'MatMul']);
    expect([...model.graph.initializers.values()].map(({ dtype }) => dtype)).toEqual(['float16']);
    expect(distance(await run(model, [2, 64]), await run(make(), [2, 64]))).toBeLessThan(1e-3);
  });

  test('a value beyond 65504 keeps its constant float, in words', async () => {
    const w = noise([64, 64]);
    new DataView(w.bytes.buffer).setFloat32(0, 1e6, true);
    const model = build([node('MatMul', ['x', 'w'])], { w }, [2, 64]);
    expect(await convert(model, {}, convertFp16)).toEqual(['a weight is too large for float16']);
  });
});

async function convert(model: Model, options: object, pass = convertCodebook): Promise<string[]> {
  const reasons: string[] = [];
  const context = {
    note: (_: Node, reason: string) => reasons.push(reason),
    progress: () => undefined,
    kernels: new Kernels(),
  } as unknown as PassContext;
  await pass.run(model.graph, context, pass.options.parse(options));
  return reasons;
}

/** A [K, N] weight as bitsandbytes stores `[N, K]` and reads it again. */
function storedAndRead(dims: [number, number], { format, nested }: { format: 'nf4' | 'fp4'; nested: boolean }) {
  const w = noise(dims);
  const [k, n] = dims;
  const given = new Float32Array(w.bytes.buffer, w.bytes.byteOffset);
  const turned = given.map((_, i) => given[(i % k) * n + Math.floor(i / k)]!);
  const blocks = quantizeFourBit(turned, { format, block: 64 });
  const absMax = nested ? unnestAbsMax(nestAbsMax(blocks.absMax)) : blocks.absMax;
  const read = dequantizeFourBit({ ...blocks, absMax }, { format, block: 64, count: k * n });
  return given.map((_, i) => read[(i % n) * k + Math.floor(i / n)]!);
}

function withWeight(model: Model, w: Float32Array): Model {
  const { dims } = model.graph.initializers.get('w')!;
  model.graph.removeInitializer('w');
  model.graph.addInitializer('w', { dtype: 'float32', dims, bytes: new Uint8Array(w.buffer) });
  expect(floats(model.graph.initializers.get('w')!)).toEqual(w);
  return model;
}

function boardOf(boardClass: BoardClass): Board {
  const arch = boardClass.startsWith('x64') ? 'x64' : 'arm64';
  const feature = ({ 'x64-vnni': 'vnni', 'arm64-dotprod': 'dotprod' } as const)[boardClass as 'x64-vnni'];
  expect(boardClassOf(arch, feature ? [feature] : [])).toBe(boardClass);
  return { ...anyBoard, arch, boardClass };
}

async function run(model: Model, dims: number[], config?: Lowered['session']): Promise<Float32Array> {
  const path = join(dir, 'model.onnx');
  await writeFile(path, encodeModel(model));
  const session = await openSession(path, { config });
  const x: TensorValue = { dtype: 'float32', dims, data: input(dims) };
  const { y } = await session.run(model.graph.isInput('x') ? { x } : {});
  await session.close();
  if (y?.dtype !== 'float32') throw new Error('no y');
  return y.data;
}

/** Root mean square of the difference, as a share of the expected values'. */
function distance(a: Float32Array, b: Float32Array): number {
  return Math.sqrt(energy(a.map((value, i) => value - b[i]!)) / energy(b));
}
