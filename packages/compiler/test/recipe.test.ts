import { tensorFromFloats, buildModel } from '@flotilla/onnx';
import { describe, expect, test } from 'vitest';
import { applyRecipe, builtInRecipe, formatRecipe, parseRecipe } from '../src/index.ts';
import { verifyRewrite } from '../src/verify-rewrite.ts';

describe('parseRecipe', () => {
  test('fills in defaults and puts a built-in recipe in its place', () => {
    const { name, passes } = parseRecipe(
      'name: mine\npasses:\n  - recipe: clean\n  - pass: quantize-int8-static\n    percentile: 99.5\n',
    );
    expect(name).toBe('mine');
    expect(passes.map(({ pass }) => pass)).toEqual([
      ...parseRecipe('name: c\npasses: [{ recipe: clean }]').passes.map(({ pass }) => pass),
      'quantize-int8-static',
    ]);
    expect(passes.at(-1)?.options).toMatchObject({ percentile: 99.5, observer: 'percentile' });
  });
  test.each([
    [
      'an unknown pass, suggesting the near one',
      'name: t\npasses: [{ pass: fold-constant }]',
      /did you mean "fold-constants"/,
    ],
    [
      'an unknown option, suggesting the near one',
      'name: t\npasses: [{ pass: calibrate, sample: 3 }]',
      /no option "sample", did you mean "samples"/,
    ],
    ['an unknown recipe', 'name: t\npasses: [{ recipe: klean }]', /did you mean "clean"/],
    ['a value of the wrong kind', 'name: t\npasses: [{ pass: calibrate, samples: many }]', /samples/],
    ['neither pass nor recipe', 'name: t\npasses: [{}]', /neither/],
    ['an alias', 'name: &a t\npasses: [{ pass: *a }]', /aliases/],
    ['a key given twice', 'name: t\nname: u\npasses: []', /not YAML/],
    ['something else', '[1, 2]', /recipe/],
    ['a pass named like a prototype', 'name: t\npasses: [{ pass: __proto__ }]', /unknown pass/],
  ])('refuses %s', (_what, text, message) => {
    expect(() => parseRecipe(text)).toThrow(
      expect.objectContaining({ code: 'compiler/recipe', message: expect.stringMatching(message) }),
    );
  });
});

describe('builtInRecipe', () => {
  test.each([
    ['int8', undefined],
    ['int8', 'dynamic'],
    ['int4', 'none'],
    ['fp32', undefined],
  ])('weights %s, activations %s', (weights, activations) => {
    const recipe = builtInRecipe(weights, activations);
    // What --explain prints can be given back.
    expect(parseRecipe(formatRecipe(recipe))).toEqual(recipe);
  });
  test('options of a pass can be replaced', () => {
    const recipe = builtInRecipe('int8', 'int8', { 'quantize-int8-static': { observer: 'mse' } });
    expect(recipe.passes.find(({ pass }) => pass === 'quantize-int8-static')?.options).toMatchObject({
      observer: 'mse',
    });
    expect(() => builtInRecipe('int8', 'int8', { calibrate: { sampels: 1 } })).toThrow(/did you mean "samples"/);
  });
  test('refuses a pair that no recipe serves', () => {
    expect(() => builtInRecipe('int4', 'int8')).toThrow(
      /--weights int4 has no built-in recipe with --activations int8/,
    );
  });
});

const model = (factor: number) =>
  buildModel({
    opset: 17,
    inputs: [{ name: 'x', type: { dtype: 'float32', dims: ['n', 3] } }],
    outputs: [{ name: 'y', type: undefined }],
    nodes: [{ opType: 'Mul', inputs: ['x', 'f'], outputs: ['y'] }],
    initializers: { f: tensorFromFloats([], Float32Array.of(factor)) },
  });

describe('the check of rewrites', () => {
  test('refuses another result, with inputs made up where there is no data', async () => {
    await expect(verifyRewrite(model(2), model(2.02), undefined)).rejects.toMatchObject({
      code: 'compiler/rewrite-changed',
      where: 'y',
    });
    expect(await verifyRewrite(model(2), model(2.0002), undefined)).toMatchObject({ samples: 2, madeUp: true });
  });
  test('the source model is left as it was', async () => {
    const source = model(1);
    const { model: result } = await applyRecipe(source, parseRecipe('name: t\npasses: [{ recipe: clean }]'));
    expect(source.graph.nodes).toHaveLength(1);
    expect(source.opset.get('')).toBe(17);
    expect(result.opset.get('')).toBe(21);
  });
  test('a rewrite after a conversion is refused before anything runs', async () => {
    const recipe = parseRecipe('name: t\npasses: [{ pass: quantize-int8-dynamic }, { pass: fold-affine }]');
    await expect(applyRecipe(model(1), recipe)).rejects.toThrow(/fold-affine rewrites the graph and must come before/);
  });
  test('an abort stops between passes', async () => {
    const recipe = parseRecipe('name: t\npasses: [{ recipe: clean }]');
    await expect(applyRecipe(model(1), recipe, { signal: AbortSignal.abort() })).rejects.toThrow(/abort/i);
  });
});
