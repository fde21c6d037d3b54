import { buildModel, type Model, type NewTensor, tensorFromFloats, tensorInfo } from '@flotilla/onnx';
import type { Tensors } from '@flotilla/runtime';
import { expect, test } from 'vitest';
import { openModelSession } from '../src/calibrate/model-session.ts';
import { seededRandom } from '../src/calibrate/seeded-random.ts';
import { applyRecipe, parseRecipe } from '../src/index.ts';

const random = seededRandom(3);
const bins = 24;

/** Rows of a Fourier transform over 64 samples, as Conv weights; `phase` 0: cosines, π/2: sines. */
function waves(phase: number): NewTensor {
  const w = Float32Array.from({ length: bins * 64 }, (_, i) =>
    Math.cos((2 * Math.PI * Math.floor(i / 64) * (i % 64)) / 64 - phase),
  );
  return tensorFromFloats([bins, 1, 64], w);
}

/** Log of a filter bank over a power spectrum, and a layer behind it. */
function features(): Model {
  const square = (input: string, output: string) => ({ opType: 'Pow', inputs: [input, 'two'], outputs: [output] });
  return buildModel({
    opset: 21,
    inputs: [tensorInfo('x', 'float32', [1, 1, 'samples'])],
    outputs: [
      { name: 'log', type: undefined },
      { name: 'y', type: undefined },
    ],
    nodes: [
      { opType: 'Conv', name: 'cosines', inputs: ['x', 'c'], outputs: ['re'], attributes: { strides: { ints: [16] } } },
      { opType: 'Conv', name: 'sines', inputs: ['x', 's'], outputs: ['im'], attributes: { strides: { ints: [16] } } },
      square('re', 're2'),
      square('im', 'im2'),
      { opType: 'Add', inputs: ['re2', 'im2'], outputs: ['power'] },
      { opType: 'Transpose', inputs: ['power'], outputs: ['frames'], attributes: { perm: { ints: [0, 2, 1] } } },
      { opType: 'MatMul', name: 'filters', inputs: ['frames', 'bank'], outputs: ['mel'] },
      { opType: 'Add', inputs: ['mel', 'floor'], outputs: ['above'] },
      { opType: 'Log', inputs: ['above'], outputs: ['log'] },
      { opType: 'MatMul', name: 'layer', inputs: ['log', 'w'], outputs: ['y'] },
    ],
    initializers: {
      c: waves(0),
      s: waves(Math.PI / 2),
      two: tensorFromFloats([], Float32Array.of(2)),
      floor: tensorFromFloats([], Float32Array.of(1e-4)),
      bank: tensorFromFloats(
        [bins, 16],
        Float32Array.from({ length: bins * 16 }, () => Math.max(0, random() - 0.6)),
      ),
      w: tensorFromFloats(
        [16, 32],
        Float32Array.from({ length: 512 }, () => random() * 2 - 1),
      ),
    },
  });
}

/** A loud tone, then one a thousandth as loud. */
const sound: Tensors = {
  x: {
    dtype: 'float32',
    dims: [1, 1, 2048],
    data: Float32Array.from({ length: 2048 }, (_, i) => Math.sin(i * (i < 1024 ? 0.9 : 0.4)) * (i < 1024 ? 1 : 1e-3)),
  },
};

async function logs(model: Model): Promise<readonly number[]> {
  const session = await openModelSession(model);
  try {
    return Array.from((await session.run(sound))['log']?.data ?? [], Number);
  } finally {
    await session.close();
  }
}

const data = {
  async *samples() {
    yield { inputs: sound };
  },
};

test.each(['quantize-int8-dynamic', 'calibrate }, { pass: quantize-int8-static, keepFirst: 0'])(
  'what makes and sums a spectrum keeps more than 8 bits in %s',
  async (passes) => {
    const source = features();
    const recipe = parseRecipe(`name: t\npasses: [{ pass: ${passes} }]`);
    const { model, notes } = await applyRecipe(source, recipe, { calibrationData: data });
    const said = new Map(notes.map(({ node, reason }) => [node, reason]));
    for (const node of ['cosines', 'sines', 'filters']) expect(said.get(node)).toMatch(/^fp16: .*spectrum/);
    expect(said.get('layer')).toContain('int8 weights');
    const [wanted, found] = [await logs(source), await logs(model)];
    expect(Math.max(...wanted.map((value, i) => Math.abs(value - (found[i] ?? 0))))).toBeLessThan(0.05);
  },
);
