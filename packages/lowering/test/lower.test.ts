import { boardClassOf, type Board, type BoardClass, listBoards } from '@flotilla/boards';
import { FLOAT_ACTIVATIONS, lowerModel } from '@flotilla/lowering';
import {
  buildModel,
  type Model,
  type NewNode,
  type NewTensor,
  tensorFromFloats,
  tensorFromInts,
  tensorInfo,
} from '@flotilla/onnx';
import { quantizeInt4, quantizeInt8 } from '@flotilla/quant';
import { describe, expect, test } from 'vitest';
import { bits, type Floats, randoms, runOrt, worst } from './run.ts';

const [pi4] = (await listBoards()) as [Board];
const classes = { x64: [], 'x64-vnni': ['vnni'], arm64: [], 'arm64-dotprod': ['dotprod'] } as const;
function board(boardClass: BoardClass): Board {
  const arch = boardClass.startsWith('x64') ? 'x64' : 'arm64';
  expect(boardClassOf(arch, classes[boardClass])).toBe(boardClass);
  return { ...pi4, arch, boardClass };
}
const ALL: readonly BoardClass[] = ['x64', 'x64-vnni', 'arm64', 'arm64-dotprod'];

const bytesOf = (view: ArrayBufferView) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);

/** A weight in blocks of 4 bits behind DequantizeLinear, as the compiler writes it. */
function blocked(dims: readonly number[], axis: number, block: number, symmetric: boolean) {
  const product = (part: readonly number[]) => part.reduce((all, dim) => all * dim, 1);
  const w = randoms(product(dims));
  const made = quantizeInt4(w, {
    rows: product(dims.slice(0, axis)),
    cols: dims[axis] ?? 0,
    inner: product(dims.slice(axis + 1)),
    block,
    symmetric,
  });
  const scaleDims = dims.with(axis, Math.ceil((dims[axis] ?? 0) / block));
  const dtype = symmetric ? ('int4' as const) : ('uint4' as const);
  const initializers: { [name: string]: NewTensor } = {
    q: { dtype, dims, bytes: made.q },
    scale: tensorFromFloats(scaleDims, made.scale),
  };
  if (made.zeroPoint) initializers['zero'] = { dtype, dims: scaleDims, bytes: made.zeroPoint };
  const node: NewNode = {
    opType: 'DequantizeLinear',
    inputs: Object.keys(initializers),
    outputs: ['w'],
    attributes: { axis: { int: axis }, block_size: { int: block } },
  };
  return { node, initializers };
}

function model(
  nodes: readonly NewNode[],
  initializers: { readonly [name: string]: NewTensor },
  x: readonly (number | string)[],
  y: readonly (number | string)[],
  dtype: 'float32' | 'int64' = 'float32',
): Model {
  return buildModel({
    opset: 21,
    inputs: [tensorInfo('x', dtype, x)],
    outputs: [tensorInfo('y', 'float32', y)],
    nodes,
    initializers,
  });
}

/** Exactly as the portable graph says, in floats. */
const reference = (portable: Model, feeds: Parameters<typeof runOrt>[1]) =>
  runOrt(portable, feeds, { level: 'disabled' });

const dims = (data: Float32Array, ...shape: number[]): Floats => ({ dims: shape, data });

describe.each(ALL)('on %s', (boardClass) => {
  const dynamic = boardClass === 'arm64';

  describe.each([
    ['K = 96, blocks of 32', 96, 32],
    ['K = 256, blocks of 128', 256, 128],
    ['K = 80, the last block cut short', 80, 32],
    ['K = 48, an odd number of blocks of 16', 48, 16],
  ])('%s', (_, k, block) => {
    test.each([true, false])('MatMul by 4-bit weights, symmetric: %s', async (symmetric) => {
      const n = 24;
      const weight = blocked([k, n], 0, block, symmetric);
      const matMul: NewNode = { opType: 'MatMul', name: 'product', inputs: ['x', 'w'], outputs: ['y'] };
      const portable = model([weight.node, matMul], weight.initializers, ['a', 'b', k], ['a', 'b', n]);
      const lowered = lowerModel(portable, board(boardClass));
      const kernel = dynamic ? 'DynamicQuantizeMatMul' : 'MatMulNBits';
      expect(lowered.choices).toMatchObject([{ node: 'product', op: 'MatMul', kernel }]);
      expect(lowered.model.graph.nodes.map((node) => node.opType)).toEqual([kernel]);
      expect(lowered.spread).toBe(boardClass === 'arm64-dotprod' ? 0.05 : 0);
      const exact = { x: dims(bits(3 * k), 1, 3, k) };
      const found = await runOrt(lowered.model, exact, { config: lowered.session });
      expect(worst(found, await reference(portable, exact))).toBeLessThan(dynamic ? 1e-2 : 1e-5);
      const real = { x: dims(randoms(3 * k, 3), 1, 3, k) };
      const rounded = await runOrt(lowered.model, real, { config: lowered.session });
      expect(worst(rounded, await reference(portable, real))).toBeLessThan(2e-2);
    });
  });

  test.each(['product', 'y'])('a product that asks for float activations, named %s, has them', async (name) => {
    const [k, n] = [96, 24];
    const weight = blocked([k, n], 0, 32, false);
    const matMul: NewNode = { opType: 'MatMul', name: 'product', inputs: ['x', 'w'], outputs: ['y'] };
    const portable = model([weight.node, matMul], weight.initializers, ['b', k], ['b', n]);
    const real = { x: dims(randoms(3 * k, 3), 3, k) };
    const errors: number[] = [];
    for (const names of [['another'], [name]]) {
      portable.setMetadata(FLOAT_ACTIVATIONS, JSON.stringify(names));
      const lowered = lowerModel(portable, board(boardClass));
      const found = await runOrt(lowered.model, real, { config: lowered.session });
      errors.push(worst(found, await reference(portable, real)));
    }
    expect(errors[0]).toBeGreaterThan(1e-3);
    expect(errors[1]).toBeLessThan(1e-5);
  });

  test.each([0, 1])('Gemm with a bias, transB = %i', async (transB) => {
    const [k, n] = [64, 40];
    const weight = blocked(transB ? [n, k] : [k, n], transB, 32, false);
    const initializers = { ...weight.initializers, c: tensorFromFloats([n], randoms(n, 5)) };
    const gemm: NewNode = {
      opType: 'Gemm',
      inputs: ['x', 'w', 'c'],
      outputs: ['y'],
      attributes: { transB: { int: transB } },
    };
    const portable = model([weight.node, gemm], initializers, ['b', k], ['b', n]);
    const lowered = lowerModel(portable, board(boardClass));
    expect(lowered.choices[0]?.kernel).toBe(dynamic ? 'DynamicQuantizeMatMul' : 'MatMulNBits');
    const exact = { x: dims(bits(2 * k), 2, k) };
    const found = await runOrt(lowered.model, exact, { config: lowered.session });
    expect(worst(found, await reference(portable, exact))).toBeLessThan(dynamic ? 1e-2 : 1e-5);
  });

  test('MatMul by int8 weights with a scale per column', async () => {
    const [k, n] = [100, 16];
    const { q, scale } = quantizeInt8(randoms(k * n), n, { inner: 1 });
    const portable = model(
      [
        { opType: 'DequantizeLinear', inputs: ['q', 's'], outputs: ['w'], attributes: { axis: { int: 1 } } },
        { opType: 'MatMul', inputs: ['x', 'w'], outputs: ['y'] },
      ],
      { q: { dtype: 'int8', dims: [k, n], bytes: bytesOf(q) }, s: tensorFromFloats([n], scale) },
      ['b', k],
      ['b', n],
    );
    const lowered = lowerModel(portable, board(boardClass));
    expect(lowered.choices[0]?.kernel).toBe(dynamic ? 'DynamicQuantizeMatMul' : 'MatMulNBits');
    const exact = { x: dims(bits(2 * k), 2, k) };
    expect(
      worst(await runOrt(lowered.model, exact, { config: lowered.session }), await reference(portable, exact)),
    ).toBeLessThan(1e-5);
  });

  test('Gather from 4-bit rows is exact', async () => {
    const weight = blocked([50, 64], 1, 32, false);
    const gather: NewNode = { opType: 'Gather', name: 'rows', inputs: ['w', 'x'], outputs: ['y'] };
    const portable = model([weight.node, gather], weight.initializers, ['n'], ['n', 64], 'int64');
    const lowered = lowerModel(portable, board(boardClass));
    expect(lowered.choices).toMatchObject([{ node: 'rows', kernel: 'GatherBlockQuantized' }]);
    const feeds = { x: BigInt64Array.of(0n, 49n, 7n) };
    expect(await runOrt(lowered.model, feeds)).toEqual(await reference(portable, feeds));
  });

  test('Conv is expanded to floats, once', async () => {
    const weight = blocked([8, 32, 3, 3], 1, 16, false);
    const conv: NewNode = { opType: 'Conv', inputs: ['x', 'w'], outputs: ['y'] };
    const portable = model([weight.node, conv], weight.initializers, [1, 32, 6, 6], [1, 8, 4, 4]);
    const lowered = lowerModel(portable, board(boardClass));
    expect(lowered.choices).toMatchObject([{ kernel: 'Conv (fp32)' }]);
    expect(lowered.model.graph.nodes.map((node) => node.opType)).toEqual(['Conv']);
    const feeds = { x: dims(randoms(32 * 36, 3), 1, 32, 6, 6) };
    expect(worst(await runOrt(lowered.model, feeds), await reference(portable, feeds))).toBeLessThan(1e-5);
  });

  test('a Conv of integers whose result stays float is expanded too; one between integers is left to be fused', () => {
    const weight = blocked([8, 32, 3, 3], 1, 16, false);
    const read = (from: string, to: string): NewNode => ({
      opType: 'DequantizeLinear',
      inputs: [from, 'step', 'half'],
      outputs: [to],
    });
    const constants = {
      ...weight.initializers,
      step: tensorFromFloats([], Float32Array.of(0.1)),
      half: { dtype: 'uint8' as const, dims: [], bytes: Uint8Array.of(128) },
    };
    const conv = (to: string): NewNode => ({ opType: 'Conv', name: 'c', inputs: ['xf', 'w'], outputs: [to] });
    const round: NewNode = { opType: 'QuantizeLinear', inputs: ['c', 'step', 'half'], outputs: ['cq'] };
    const start: NewNode = { opType: 'QuantizeLinear', inputs: ['x', 'step', 'half'], outputs: ['xq'] };
    const lowered = (nodes: readonly NewNode[]) =>
      lowerModel(
        model([weight.node, start, read('xq', 'xf'), ...nodes], constants, [1, 32, 6, 6], [1, 8, 4, 4]),
        board(boardClass),
      ).choices.map(({ kernel }) => kernel);
    expect(lowered([conv('y')])).toEqual(['Conv (fp32)']);
    expect(lowered([conv('c'), round, read('cq', 'y')])).toEqual(['QLinearConv']);
  });

  test('a tied weight stays tied: one table, whoever reads it', () => {
    const weight = blocked([64, 48], 0, 32, false);
    const nodes: NewNode[] = [
      weight.node,
      { opType: 'MatMul', inputs: ['x', 'w'], outputs: ['a'] },
      { opType: 'Relu', inputs: ['x'], outputs: ['r'] },
      { opType: 'MatMul', inputs: ['r', 'w'], outputs: ['b'] },
      { opType: 'Add', inputs: ['a', 'b'], outputs: ['y'] },
    ];
    const { model: made } = lowerModel(model(nodes, weight.initializers, ['b', 64], ['b', 48]), board(boardClass));
    expect([...made.graph.initializers.values()].filter(({ dims: { length } }) => length >= 2)).toHaveLength(1);
  });

  test('a weight that is also an output stays readable', async () => {
    const weight = blocked([32, 16], 0, 32, false);
    const portable = buildModel({
      opset: 21,
      inputs: [tensorInfo('x', 'float32', ['b', 32])],
      outputs: [tensorInfo('y', 'float32', ['b', 16]), tensorInfo('w', 'float32', [32, 16])],
      nodes: [weight.node, { opType: 'MatMul', inputs: ['x', 'w'], outputs: ['y'] }],
      initializers: weight.initializers,
    });
    const lowered = lowerModel(portable, board(boardClass));
    expect(lowered.model.graph.outputs.map(({ name }) => name)).toEqual(['y', 'w']);
    await runOrt(lowered.model, { x: dims(bits(32), 1, 32) });
  });

  test('a plan has the graph, and the shapes of constants whose bytes nobody made', () => {
    const weight = blocked([96, 64], 1, 32, boardClass !== 'x64');
    const nodes: NewNode[] = [
      weight.node,
      { opType: 'Gemm', name: 'product', inputs: ['x', 'w'], outputs: ['a'], attributes: { transB: { int: 1 } } },
      { opType: 'MatMul', name: 'other', inputs: ['a', 'w'], outputs: ['b'] },
      { opType: 'Add', name: 'sum', inputs: ['b', 'w'], outputs: ['y'] },
    ];
    const portable = model(nodes, weight.initializers, [96, 64], [96, 64]);
    const [made, plan] = [false, true].map((planOnly) => lowerModel(portable, board(boardClass), { planOnly }));
    const looks = (it = made) => [
      it?.choices,
      it?.model.graph.nodes.map(({ opType, inputs, attributes }) => [opType, inputs, [...attributes]]),
      [...(it?.model.graph.initializers ?? [])].map(([name, { dtype, dims: shape }]) => [name, dtype, shape]),
    ];
    expect(looks(plan)).toEqual(looks(made));
    expect(() => plan?.model.graph.constant(plan.model.graph.nodes[0]?.inputs[1] ?? '')?.bytes()).toThrow('planned');
  });

  test('the model that was given is not changed', () => {
    const weight = blocked([32, 16], 0, 32, false);
    const portable = model(
      [weight.node, { opType: 'MatMul', inputs: ['x', 'w'], outputs: ['y'] }],
      weight.initializers,
      ['b', 32],
      ['b', 16],
    );
    lowerModel(portable, board(boardClass));
    expect(portable.graph.nodes.map((node) => node.opType)).toEqual(['DequantizeLinear', 'MatMul']);
    expect([...portable.graph.initializers.keys()]).toEqual(['q', 'scale', 'zero']);
  });
});

/** All weights 127, all activations 255: the worst that integer sums can meet. `80.01 = 63 · 127 · 0.01`. */
function saturating(weight: number, every = 1): Model {
  const [k, n] = [64, 8];
  return model(
    [
      { opType: 'QuantizeLinear', inputs: ['x', 'xs', 'xz'], outputs: ['xq'] },
      { opType: 'DequantizeLinear', inputs: ['xq', 'xs', 'xz'], outputs: ['xd'] },
      { opType: 'DequantizeLinear', inputs: ['q', 's'], outputs: ['w'], attributes: { axis: { int: 1 } } },
      { opType: 'MatMul', name: 'm', inputs: ['xd', 'w'], outputs: ['y'] },
    ],
    {
      xs: tensorFromFloats([], [1 / 255]),
      xz: tensorFromInts('uint8', [], [0]),
      q: tensorFromInts(
        'int8',
        [k, n],
        Array.from({ length: k * n }, (_, i) => (Math.floor(i / n) % every === 0 ? weight : 1)),
      ),
      s: tensorFromFloats([n], Array(n).fill(0.01)),
    },
    ['b', k],
    ['b', n],
  );
}

test.each(ALL)('int8 pairs on %s stay for ONNX Runtime, and full-range weights give exact sums', async (boardClass) => {
  const portable = saturating(127);
  const { model: made, session, choices } = lowerModel(portable, board(boardClass));
  expect(made.graph.nodes.map((node) => node.opType)).toEqual(portable.graph.nodes.map((node) => node.opType));
  expect(choices).toMatchObject([{ node: 'm', kernel: 'MatMulIntegerToFloat' }]);
  const ones = { x: dims(new Float32Array(64).fill(1), 1, 64) };
  expect((await runOrt(made, ones, { config: session }))[0]).toBeCloseTo(64 * 1.27, 3);
});

test.each(ALL)('%s pays for exact sums only where two neighbours need them', (boardClass) => {
  const sums = (source: Model) => lowerModel(source, board(boardClass)).session['session.x64quantprecision'];
  expect(sums(saturating(127))).toBe('1');
  expect(sums(saturating(64))).toBeUndefined();
  // 127 beside 1: 255 · 128 still fits 16 bits.
  expect(sums(saturating(127, 2))).toBeUndefined();
});

test('full-range weights whose neighbours are small are exact without the option', async () => {
  const { model: made, session } = lowerModel(saturating(127, 2), board('x64'));
  const ones = { x: dims(new Float32Array(64).fill(1), 1, 64) };
  expect((await runOrt(made, ones, { config: session }))[0]).toBeCloseTo(32 * 1.28, 3);
});

test('sizes that do not fit each other are refused by the node’s name', () => {
  const weight = blocked([64, 16], 0, 32, false);
  const wrong = { ...weight.initializers, scale: tensorFromFloats([1, 16], new Float32Array(16)) };
  const portable = model(
    [
      { ...weight.node, name: 'dq' },
      { opType: 'MatMul', inputs: ['x', 'w'], outputs: ['y'] },
    ],
    wrong,
    ['b', 64],
    ['b', 16],
  );
  expect(() => lowerModel(portable, board('x64'))).toThrow(
    expect.objectContaining({ code: 'lowering/shape', where: 'dq', message: expect.stringContaining('"dq"') }),
  );
});
