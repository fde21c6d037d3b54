import {
  buildModel,
  floats,
  type Model,
  type NewNode,
  type NewTensor,
  type Node,
  tensorFromFloats,
  tensorFromInts,
  tensorInfo,
} from '@flotilla/onnx';
import type { Tensors } from '@flotilla/runtime';
import { describe, expect, test } from 'vitest';
import { openModelSession } from '../src/calibrate/model-session.ts';
import { Kernels } from '../src/kernels/kernels.ts';
import type { PassContext } from '../src/pass.ts';
import { convertInt4 } from '../src/passes/convert-int4.ts';
import { rotateResidual } from '../src/passes/rotate-residual.ts';
import { scaleChannels } from '../src/passes/scale-channels.ts';
import { energy, node, noise } from './small-models.ts';

const WIDTH = 48;
const TOKENS = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 58, 9];

describe('rotate-residual', () => {
  test('turns embedding, projections and their biases; the model computes what it did', async () => {
    const before = await run(decoder());
    const model = decoder();
    const notes = await apply(rotateResidual, model, { when: 'always' });
    expect(notes).toEqual(['the residual stream is turned by a random Hadamard matrix']);
    expect(distance(await run(model), before)).toBeLessThan(1e-5);
    const { initializers } = model.graph;
    const gains = [...model.graph.walk({ opType: 'Mul' })].flatMap(({ inputs }) => {
      const gain = model.graph.constant(inputs[1] ?? '');
      return gain ? [...floats(gain)] : [];
    });
    expect(new Set(gains)).toEqual(new Set([1]));
    // The channel that stood out in the embedding is spread over all.
    const table = floats([...initializers.values()].find(({ dims }) => dims[0] === 60)!);
    const sizes = Array.from({ length: WIDTH }, (_, c) => energy(table.filter((__, i) => i % WIDTH === c)));
    expect(Math.max(...sizes)).toBeLessThan(4 * Math.min(...sizes));
  });

  test('by itself unless 4-bit blocks would err more: with a channel that stands out, not where signs are exact', async () => {
    expect(await apply(rotateResidual, decoder(), {})).toEqual([expect.stringContaining('is turned')]);
    expect(await apply(rotateResidual, decoder({ signs: true }), {})).toEqual([
      expect.stringContaining('would err more'),
    ]);
  });

  test.each<[string, Parameters<typeof decoder>[0], string]>([
    ['a tied embedding', { tied: true }, 'the weight of Gather embed has other readers'],
    ['a stream that is handed out', { output: 'stream' }, 'not by a sum of projections'],
    ['another reader of the stream', { stray: true }, 'reads the residual stream itself'],
    ['a norm that more than projections read', { strayNorm: true }, 'is no projection'],
  ])('%s: the graph stays', async (_, options, reason) => {
    const model = decoder(options);
    const names = [...model.graph.initializers.keys()];
    expect(await apply(rotateResidual, model, { when: 'always' })).toEqual([expect.stringContaining(reason)]);
    expect([...model.graph.initializers.keys()]).toEqual(names);
  });
});

describe('scale-channels', () => {
  const samples: Tensors[] = [{ ids: { dtype: 'int64', dims: [1, 12], data: BigInt64Array.from(TOKENS, BigInt) } }];
  const options = { block: 32, samples: 1, minElements: 64 };

  test('scales go into norms and projections before; the model computes what it did, and the layer that reads the scaled norm errs less', async () => {
    const before = await run(decoder());
    const model = decoder();
    const notes = await apply(scaleChannels, model, options, samples);
    expect(notes.filter((note) => /% of the error is left/.test(note))).toHaveLength(3); // up, down, head
    expect(distance(await run(model), before)).toBeLessThan(1e-5);
    const errorOf = async (given: Model): Promise<number> => {
      const one = { block: 32, method: 'rtn', head: 'int4', ops: ['MatMul'], float: ['down', 'head'] };
      await apply(convertInt4, given, one, samples);
      return distance(await run(given), before);
    };
    expect(await errorOf(model)).toBeLessThan(0.8 * (await errorOf(decoder())));
  });

  test('where nothing can take the scales over, the reason is told; without data it is an error', async () => {
    const model = decoder({ strayNorm: true });
    const notes = await apply(scaleChannels, model, options, samples);
    expect(notes).toContainEqual("AWQ's scales stay out: Tanh stray reads the same input");
    await expect(apply(scaleChannels, decoder(), options)).rejects.toMatchObject({ code: 'compiler/calibration' });
  });
});

describe('convert-int4 of an embedding', () => {
  const options = { block: 32, minElements: 64, ops: ['Gather'] };

  test('what its first readers make of it errs less than by rounding to nearest, without data', async () => {
    const errorOf = async (method: string): Promise<number> => {
      const model = decoder();
      model.graph.setOutputs([{ name: 'a', type: undefined }]);
      const before = await run(model, 'a');
      const [reason] = await apply(convertInt4, model, { ...options, method });
      expect(reason).toBe(`uint4, blocks of 16${method === 'rtn' ? ', GPTQ along its readers' : ', HQQ'}`);
      return distance(await run(model, 'a'), before);
    };
    expect(await errorOf('rtn')).toBeLessThan(0.9 * (await errorOf('hqq')));
  });

  test.each<[string, Parameters<typeof decoder>[0]]>([
    ['a tied embedding', { tied: true }],
    ['rows that no RMSNorm reads', { noNorm: true }],
  ])('%s is rounded to nearest', async (_, given) => {
    expect(await apply(convertInt4, decoder(given), { ...options, method: 'rtn' })).toEqual(['uint4, blocks of 16']);
  });
});

interface DecoderOptions {
  readonly tied?: boolean;
  readonly output?: string;
  readonly stray?: boolean;
  readonly strayNorm?: boolean;
  /** A Tanh stands between the embedding and the first norm. */
  readonly noNorm?: boolean;
  /** Weights of ±1 alone, which 4 bits hold exactly until they are turned. */
  readonly signs?: boolean;
}

/** Embedding, one layer (norm, up with a bias, Relu, down) around which a sum runs, a norm, a head. */
function decoder({
  tied = false,
  output = 'y',
  stray = false,
  strayNorm = false,
  noNorm = false,
  signs = false,
}: DecoderOptions = {}): Model {
  const weight = (dims: number[]): NewTensor => {
    const { bytes } = noise(dims);
    const w = new Float32Array(bytes.buffer, bytes.byteOffset);
    return tensorFromFloats(dims, signs ? w.map(Math.sign) : w);
  };
  const table = weight([60, WIDTH]);
  const embedding = new Float32Array(table.bytes.buffer, table.bytes.byteOffset).map((value, i) =>
    i % WIDTH === 7 && !signs ? value * 12 : value,
  );
  const nodes: NewNode[] = [
    node('Gather', ['table', 'ids'], {}, 'x0', 'embed'),
    ...norm(noNorm ? 'bent' : 'x0', 'gain1', 'n1'),
    node('MatMul', ['n1', 'up'], {}, 'a', 'up'),
    node('Relu', ['a'], {}, 'b', 'relu'),
    node('MatMul', ['b', 'down'], {}, 'c', 'down'),
    node('Add', ['c', 'bias'], {}, 'd', 'biased'),
    node('Add', ['x0', 'd'], {}, 'stream', 'sum'),
    ...norm('stream', 'gain2', 'n2'),
    tied
      ? node('Gemm', ['flat', 'table'], { transB: { int: 1 } }, 'y', 'head')
      : node('MatMul', ['n2', 'head'], {}, 'y', 'head'),
  ];
  if (tied) nodes.splice(-1, 0, node('Reshape', ['n2', 'rows'], {}, 'flat', 'flat'));
  if (noNorm) nodes.splice(1, 0, node('Tanh', ['x0'], {}, 'bent', 'tanh'));
  if (stray) nodes.push(node('Tanh', ['stream'], {}, 'unread', 'stray'));
  if (strayNorm) nodes.push(node('Tanh', ['n1'], {}, 'unread', 'stray'));
  const gain = (seed: number) =>
    tensorFromFloats(
      [WIDTH],
      Float32Array.from({ length: WIDTH }, (_, i) => 1 + 0.5 * Math.sin(i * seed)),
    );
  return buildModel({
    opset: 21,
    inputs: [tensorInfo('ids', 'int64', [1, 'length'])],
    outputs: [
      tensorInfo(output, 'float32', undefined),
      ...(stray || strayNorm ? [tensorInfo('unread', 'float32', undefined)] : []),
    ],
    nodes,
    initializers: {
      table: tensorFromFloats([60, WIDTH], embedding),
      gain1: gain(1),
      gain2: gain(2),
      up: weight([WIDTH, 96]),
      down: weight([96, WIDTH]),
      bias: noise([WIDTH]),
      head: weight([WIDTH, 60]),
      two: tensorFromFloats([], [2]),
      one: tensorFromFloats([], [1]),
      epsilon: tensorFromFloats([], [1e-5]),
      last: tensorFromInts('int64', [1], [-1]),
      rows: tensorFromInts('int64', [2], [-1, WIDTH]),
    },
  });
}

/** RMSNorm as exporters spell it out. */
function norm(x: string, gain: string, y: string): NewNode[] {
  const at = (name: string) => `${y}_${name}`;
  return [
    node('Pow', [x, 'two'], {}, at('square'), at('pow')),
    node('ReduceMean', [at('square'), 'last'], {}, at('mean'), at('reduce')),
    node('Add', [at('mean'), 'epsilon'], {}, at('sum'), at('add')),
    node('Sqrt', [at('sum')], {}, at('root'), at('sqrt')),
    node('Div', ['one', at('root')], {}, at('inverse'), at('div')),
    node('Mul', [x, at('inverse')], {}, at('unit'), at('mul')),
    node('Mul', [at('unit'), gain], {}, y, at('gain')),
  ];
}

async function apply(
  pass: typeof rotateResidual,
  model: Model,
  options: object,
  samples?: Tensors[],
): Promise<string[]> {
  const reasons: string[] = [];
  const context = {
    note: (_: Node, reason: string) => reasons.push(reason),
    progress: () => undefined,
    kernels: new Kernels(),
    open: openModelSession,
    floatModel: model,
    samples:
      samples &&
      async function* () {
        yield* samples;
      },
  } as unknown as PassContext;
  await pass.run(model.graph, context, pass.options.parse(options));
  return reasons;
}

async function run(model: Model, output = 'y'): Promise<Float32Array> {
  const session = await openModelSession(model);
  const { [output]: y } = await session.run({
    ids: { dtype: 'int64', dims: [1, 12], data: BigInt64Array.from(TOKENS, BigInt) },
  });
  await session.close();
  if (y?.dtype !== 'float32') throw new Error(`no ${output}`);
  return y.data;
}

/** Root mean square of the difference, as a share of the expected values'. */
function distance(a: Float32Array, b: Float32Array): number {
  return Math.sqrt(energy(a.map((value, i) => value - b[i]!)) / energy(b));
}
