import {
  buildModel,
  type Model,
  type NewModel,
  type NewTensor,
  tensorFromFloats,
  tensorFromInts,
} from '@flotilla/onnx';
import { describe, expect, test } from 'vitest';
import { seededRandom } from '../src/calibrate/seeded-random.ts';
import { applyRecipe, parseRecipe } from '../src/index.ts';

const random = seededRandom(9);
const noise = (...dims: number[]): NewTensor =>
  tensorFromFloats(
    dims,
    Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => random() * 2 - 1),
  );
const ints = (...values: number[]): NewTensor => tensorFromInts('int64', [values.length], values);
const node = (
  opType: string,
  inputs: string,
  outputs: string,
  attributes: NewModel['nodes'][number]['attributes'] = {},
) => ({
  opType,
  inputs: inputs.split(' '),
  outputs: outputs.split(' '),
  attributes,
});

function model(dims: readonly (number | string)[], parts: Pick<NewModel, 'nodes'> & Partial<NewModel>): Model {
  const x = { name: 'x', type: { dtype: 'float32' as const, dims } };
  return buildModel({ opset: 21, inputs: [x], outputs: [{ name: 'y', type: undefined }], initializers: {}, ...parts });
}

/** What is left of a model; the runner has compared it with the source on made-up inputs. */
async function rewrite(source: Model, passes: string): Promise<readonly string[]> {
  const list = passes.split('; ').map((pass) => `{ pass: ${pass} }`);
  const { model: result, rewriteCheck } = await applyRecipe(
    source,
    parseRecipe(`name: t\npasses: [${list.join(', ')}]`),
  );
  expect(rewriteCheck).toMatchObject({ madeUp: true });
  expect(rewriteCheck?.skipped).toBeUndefined();
  return result.graph.nodes.map(({ opType }) => opType);
}

describe('cancel-transposes', () => {
  const [toImage, toLast] = [{ perm: { ints: [0, 3, 1, 2] } }, { perm: { ints: [0, 2, 3, 1] } }];
  /** As tf2onnx writes NHWC: every convolution between two transpositions, the rest on channels last. */
  const exported = [
    node('Transpose', 'x', 'a', toImage),
    node('Conv', 'a w', 'b'),
    node('Transpose', 'b', 'c', toLast),
    node('Add', 'c bias', 'd'),
    node('Relu', 'd', 'e'),
    node('Transpose', 'e', 'f', toImage),
    node('Conv', 'f v', 'g'),
    node('Transpose', 'g', 'h', toLast),
    node('Add', 'h e', 'i'),
    node('Concat', 'i e', 'j', { axis: { int: -1 } }),
    node('ReduceMean', 'j axes', 'k'),
    node('Mul', 'k j', 'y'),
  ];
  const initializers = { w: noise(4, 3, 1, 1), v: noise(4, 4, 1, 1), bias: noise(4), axes: ints(1, 2) };
  test('an NHWC export keeps one at its beginning and one at its end', async () => {
    expect(await rewrite(model(['n', 6, 5, 3], { nodes: exported, initializers }), 'cancel-transposes')).toEqual([
      'Transpose',
      'Conv',
      'Add',
      'Relu',
      'Conv',
      'Add',
      'Concat',
      'ReduceMean',
      'Mul',
      'Transpose',
    ]);
  });
  test('two in a row become one; what two others read stays', async () => {
    const nodes = [node('Transpose', 'x', 'a', toImage), node('Transpose', 'a', 'y', toImage)];
    expect(await rewrite(model([2, 3, 4, 5], { nodes }), 'cancel-transposes')).toEqual(['Transpose']);
    const read = [
      node('Transpose', 'x', 'a', toImage),
      node('Relu', 'a', 'b'),
      node('Softmax', 'b', 'c'),
      node('Add', 'c b', 'y'),
    ];
    expect(await rewrite(model([2, 3, 4, 5], { nodes: read }), 'cancel-transposes')).toEqual([
      'Transpose',
      'Relu',
      'Softmax',
      'Add',
    ]);
  });
  test('a constant that spreads over two axes keeps its transposition', async () => {
    const nodes = [
      node('Transpose', 'x', 'a', toImage),
      node('Transpose', 'a', 'b', toLast),
      node('Transpose', 'b', 'c', toImage),
      node('Add', 'c plane', 'd'),
      node('Transpose', 'd', 'y', toLast),
    ];
    expect(
      await rewrite(model([1, 4, 4, 4], { nodes, initializers: { plane: noise(4, 4) } }), 'cancel-transposes'),
    ).toEqual(['Transpose', 'Add', 'Transpose']);
  });
});

test('merge-duplicates: equal constants, and what is computed twice', async () => {
  const nodes = [
    node('Mul', 'x a', 'p'),
    node('Sigmoid', 'p', 'q'),
    node('Mul', 'x b', 'r'),
    node('Sigmoid', 'r', 's'),
    node('Mul', 'x c', 't'),
    node('Sum', 'q s t', 'y'),
  ];
  const [a, c] = [noise(8), noise(8)];
  const source = model(['n', 8], { nodes, initializers: { a, b: a, c } });
  expect(await rewrite(source, 'merge-duplicates; remove-dead')).toEqual(['Mul', 'Sigmoid', 'Mul', 'Sum']);
});

/** The batch is free, the rest is not: Shape → Gather → Concat → Reshape. */
const reshaping = () =>
  model(['n', 4, 6], {
    nodes: [
      node('Shape', 'x', 's'),
      node('Gather', 's first', 'batch'),
      node('Concat', 'batch rest', 'shape', { axis: { int: 0 } }),
      node('Reshape', 'x shape', 'r'),
      node('Relu', 'r', 'y'),
    ],
    initializers: { first: ints(0), rest: ints(24) },
  });

test('simplify-shapes: a shape with one free length is a constant', async () => {
  expect(await rewrite(reshaping(), 'simplify-shapes; remove-dead')).toEqual(['Reshape', 'Relu']);
});

describe('fix-shape', () => {
  test('what depends on the length is folded, and the input says so', async () => {
    const source = model(['n', 'w'], {
      nodes: [
        node('Shape', 'x', 's'),
        node('Cast', 's', 'c', { to: { int: 1 } }),
        node('ReduceMax', 'c', 'm'),
        node('Mul', 'x m', 'y'),
      ],
    });
    const passes = 'fix-shape, shapes: { x: [2, 40] }; fold-constants; remove-dead';
    expect(await rewrite(source, passes)).toEqual(['ReduceMax', 'Mul']);
  });
  test.each([
    ['z: [1]', 'no input "z"'],
    ['x: [1, 4]', 'not [1, 4]'],
    ['x: [1, 5, 6]', 'not [1, 5, 6]'],
  ])('{ %s } is refused', async (shapes, message) => {
    const recipe = parseRecipe(`name: t\npasses: [{ pass: fix-shape, shapes: { ${shapes} } }]`);
    await expect(applyRecipe(reshaping(), recipe)).rejects.toThrow(message);
  });
});

test.each([
  ['ConstantOfShape', [node('ConstantOfShape', 'huge', 'b')]],
  ['Expand', [node('Expand', 'one huge', 'b')]],
  ['Tile', [node('Tile', 'one huge', 'b')]],
  ['Range', [node('Range', 'zero end step', 'b')]],
])('#24 %s of 2^46 elements, more than any memory has, is not folded', async (_, bomb) => {
  const source = model([1], {
    nodes: [...bomb, node('ReduceMax', 'b axes', 'm'), node('Mul', 'x m', 'y')],
    initializers: {
      huge: ints(2 ** 46),
      one: tensorFromFloats([1], Float32Array.of(1)),
      zero: tensorFromFloats([], Float32Array.of(0)),
      end: tensorFromFloats([], Float32Array.of(2 ** 46)),
      step: tensorFromFloats([], Float32Array.of(1)),
      axes: ints(0),
    },
  });
  const { model: result, warnings } = await applyRecipe(source, parseRecipe('name: t\npasses: [{ recipe: clean }]'));
  expect(result.graph.nodes.map(({ opType }) => opType)).toEqual([bomb[0]?.opType, 'ReduceMax', 'Mul']);
  expect(warnings).toEqual([expect.stringContaining('clean-up was not compared with the source')]);
});
