import { loadBoard } from '@flotilla/boards';
import { lowerModel } from '@flotilla/lowering';
import { decoderFeeds } from '@flotilla/runtime';
import { expect, test } from 'vitest';
import { decode } from '../../../test/models/decode.ts';
import { buildLlama, type LlamaSizes } from '../../../test/models/random-llama.ts';
import { recipeOf } from '../src/compile/recipe-of.ts';
import { parseRecipe } from '../src/recipe.ts';
import { applyRecipe } from '../src/runner.ts';

const sizes: LlamaSizes = { hidden: 64, layers: 2, heads: 4, kvHeads: 2, ffn: 48, vocabulary: 40, positions: 24 };
const source = buildLlama(sizes);
const recipe = parseRecipe('name: kv\npasses:\n  - pass: check-attention\n  - pass: quantize-kv-cache\n');
const inputs = source.graph.inputs.map(({ name, type }) => ({
  name,
  dtype: type?.dtype ?? '',
  dims: (type?.dims ?? []).map((dim) => dim ?? ''),
}));
const calibrationData = {
  async *samples() {
    for (let i = 0; i < 8; i++)
      yield {
        inputs: decoderFeeds(
          inputs,
          Array.from({ length: 10 }, (_, j) => (i * 11 + j * 7) % 40),
        ),
      };
  },
};
const pieces = [[1, 5, 9, 13, 2], [7], [3, 3, 20]];
const rms = (x: Float32Array) => Math.sqrt(x.reduce((sum, value) => sum + value * value, 0) / x.length);
/** Root mean square of the difference, as a share of what is expected. */
const distance = (found: Float32Array, expected: Float32Array) =>
  rms(found.map((value, i) => value - (expected[i] ?? Number.NaN))) / rms(expected);

test('keys and values as int8 give nearly the same logits, and the engine’s own int8 cache the same', async () => {
  const { model, notes } = await applyRecipe(source, recipe, { calibrationData });
  expect(notes.filter(({ outcome }) => outcome === 'quantized')).toHaveLength(4);
  const caches = [...model.graph.inputs, ...model.graph.outputs].filter(({ type }) => type?.dims?.length === 4);
  expect(caches.map(({ type }) => type?.dtype)).toEqual(Array.from({ length: 8 }, () => 'int8'));

  const lowered = lowerModel(model, await loadBoard('host'), { cache: 'in-place' });
  expect(lowered.choices[0]).toMatchObject({ kernel: 'GroupQueryAttention', reason: expect.stringContaining('int8') });
  const float = await decode(source, pieces);
  const portable = await decode(model, pieces);
  const fused = await decode(lowered.model, pieces);
  for (const [i, logits] of float.entries()) {
    expect(distance(portable[i] ?? logits, logits)).toBeGreaterThan(0);
    expect(distance(portable[i] ?? logits, logits)).toBeLessThan(0.02);
    expect(distance(fused[i] ?? logits, portable[i] ?? logits)).toBeLessThan(0.01);
  }
});

test('--kv-cache int8 adds the pass to any recipe, and needs data', async () => {
  const { passes } = await recipeOf({ weights: 'int4', kvCache: 'int8' });
  expect(passes.at(-1)?.pass).toBe('quantize-kv-cache');
  await expect(recipeOf({ kvCache: 'int5' })).rejects.toThrow('fp32 or int8, not int5');
  await expect(applyRecipe(source, recipe)).rejects.toThrow('needs calibration data');
});
