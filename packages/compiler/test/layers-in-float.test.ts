import { buildModel, type Model, type NewNode, tensorFromFloats } from '@flotilla/onnx';
import type { Tensors } from '@flotilla/runtime';
import { describe, expect, test } from 'vitest';
import { seededRandom } from '../src/calibrate/seeded-random.ts';
import { applyRecipe, parseRecipe } from '../src/index.ts';
import { MinimumCut } from '../src/passes/int8/minimum-cut.ts';

const random = seededRandom(23);
const noise = (dims: readonly number[], size = 0.3) =>
  tensorFromFloats(
    dims,
    Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => (random() * 2 - 1) * size),
  );

/** 1×1 convolutions one behind the other, each with a Relu; `widths` from the input's to the output's. */
function chain(widths: readonly number[], side = 8): Model {
  const weights = widths.slice(1).map((width, i) => [`w${i}`, noise([width, widths[i] ?? 0, 1, 1])] as const);
  const nodes: NewNode[] = weights.flatMap(([name], i) => [
    { opType: 'Conv', name: `conv${i}`, inputs: [i === 0 ? 'x' : `r${i - 1}`, name], outputs: [`c${i}`] },
    { opType: 'Relu', inputs: [`c${i}`], outputs: [i === weights.length - 1 ? 'y' : `r${i}`] },
  ]);
  return buildModel({
    opset: 17,
    inputs: [{ name: 'x', type: { dtype: 'float32', dims: [1, widths[0] ?? 0, side, side] } }],
    outputs: [{ name: 'y', type: undefined }],
    nodes,
    initializers: Object.fromEntries(weights),
  });
}

function samples(channels: number, value: () => number, side = 8): Tensors[] {
  return Array.from({ length: 4 }, () => {
    const dims = [1, channels, side, side];
    return { x: { dtype: 'float32', dims, data: Float32Array.from({ length: channels * side * side }, value) } };
  });
}

/** What became of each convolution: its weights' type, and why it is float where it is. */
async function outcome(source: Model, data: readonly Tensors[], options: string) {
  const recipe = `{ pass: calibrate, fewest: 0 }, { pass: quantize-int8-static, ${options} }`;
  const { model, notes } = await applyRecipe(source, parseRecipe(`name: t\npasses: [${recipe}]`), {
    calibrationData: {
      async *samples() {
        for (const inputs of data) yield { inputs };
      },
    },
  });
  const convs = notes.filter(({ op }) => op === 'Conv');
  return {
    stored: convs.filter(({ reason }) => reason.includes('float arithmetic')).map(({ node }) => node),
    reasons: [...new Set(convs.map(({ reason }) => reason))],
    int8: [...model.graph.initializers.values()].filter(({ dtype, dims }) => dtype === 'int8' && dims.length === 4)
      .length,
    floats: [...model.graph.initializers.values()].filter(
      ({ dtype, dims }) => dtype === 'float32' && dims.length === 4,
    ),
  };
}

describe('what would not be faster stays float', () => {
  const even = () => random() * 2 - 1;

  test('narrow convolutions, with int8 weights and the reason', async () => {
    const {
      stored,
      reasons,
      int8,
      floats: left,
    } = await outcome(chain([3, 8, 8, 6]), samples(3, even), 'onlyIfFaster: true');
    expect(stored).toEqual(['conv0', 'conv1', 'conv2']);
    expect(reasons).toEqual([expect.stringContaining('integers would not be faster')]);
    expect([int8, left]).toEqual([3, []]);
  });

  test('wide ones do not, and take what lies between them along', async () => {
    const { stored, int8 } = await outcome(chain([256, 256, 192, 256]), samples(256, even), 'onlyIfFaster: true');
    expect([stored, int8]).toEqual([[], 3]);
  });

  test.each([
    ['a narrow island goes without the wide one', 64, ['conv3']],
    ['where it would hardly show, it does not go', 256, []],
  ])('%s', async (_, width, expected) => {
    const source = chain([width, width, width, 8, 8]);
    const last = source.graph.nodes.find(({ name }) => name === 'conv3');
    source.graph.addNode({ opType: 'Softplus', inputs: ['r2'], outputs: ['s'] }, { before: last });
    last?.setInput(0, 's');
    const { stored } = await outcome(source, samples(width, even), 'onlyIfFaster: true');
    expect(stored).toEqual(expected);
  });

  test('where nothing was measured, all that can be is in integers', async () => {
    const { stored } = await outcome(chain([3, 8, 8, 6]), samples(3, even), 'keepFirst: 0');
    expect(stored).toEqual([]);
  });
});

describe('the outputs of a float start', () => {
  // A few values a hundred times larger than the others: one step of 255 swallows those.
  const tailed = () => (random() < 0.01 ? 60 : 0.4) * (random() * 2 - 1);

  test('as many of the first convolutions are float as the floor asks for, and no more', async () => {
    const source = chain([6, 8, 8, 8, 8, 8]);
    const data = samples(6, tailed);
    const low = await outcome(source, data, 'floor: 5, percentile: 100');
    const high = await outcome(source, data, 'floor: 26, percentile: 100');
    expect(low.stored).toEqual([]);
    expect(high.stored.length).toBeGreaterThan(0);
    expect(high.stored).toEqual(['conv0', 'conv1', 'conv2'].slice(0, high.stored.length));
    expect(high.reasons).toContainEqual(expect.stringContaining('under 26 dB'));
  });

  test('none is where three quarters of them would not do', async () => {
    const { stored } = await outcome(chain([6, 8, 8, 8, 8, 8]), samples(6, tailed), 'floor: 90');
    expect(stored).toEqual([]);
  });
});

test('a minimum cut takes the cheaper side of each vertex, and what ties them into account', () => {
  const cut = new MinimumCut();
  // a would rather be at the sink, b at the source; the tie of 2 between them is not worth it, that of 9 to c is.
  for (const [from, to, capacity] of [
    ['s', 'a', 1],
    ['a', 't', 5],
    ['s', 'b', 8],
    ['b', 't', 1],
    ['a', 'b', 2],
    ['b', 'a', 2],
    ['s', 'c', 1],
    ['c', 't', 3],
    ['b', 'c', 9],
    ['c', 'b', 9],
  ] as const)
    cut.add(from, to, capacity);
  expect([...cut.reachable('s', 't')].toSorted()).toEqual(['b', 'c', 's']);
});
