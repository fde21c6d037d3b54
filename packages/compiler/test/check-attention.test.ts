import { loadBoard } from '@flotilla/boards';
import { ATTENTION, lowerModel } from '@flotilla/lowering';
import type { Model } from '@flotilla/onnx';
import { expect, test } from 'vitest';
import { buildLlama } from '../../../test/models/random-llama.ts';
import { applyRecipe } from '../src/runner.ts';

const sizes = { hidden: 32, layers: 1, heads: 2, kvHeads: 1, ffn: 32, vocabulary: 40, positions: 24 };
const recipe = { name: 'check', passes: [{ pass: 'check-attention', options: {} }] };
const attention = async (model: Model) => {
  const { choices } = lowerModel(model, await loadBoard('host'));
  return choices.find(({ op }) => op === 'Softmax')?.kernel;
};

test('attention that gives the same numbers fused will be fused', async () => {
  const { model, warnings } = await applyRecipe(buildLlama(sizes), recipe);
  expect(warnings).toEqual([]);
  expect(await attention(model)).toBe('GroupQueryAttention');
});

test('attention that only looks causal stays as it is, on every board', async () => {
  const source = buildLlama(sizes);
  // No token sees itself: nothing in the graph's shape tells.
  const [later] = source.graph.walk({ opType: 'Greater' });
  const [output = ''] = later?.outputs ?? [];
  if (later) source.graph.removeNode(later);
  source.graph.addNode(
    { opType: 'GreaterOrEqual', inputs: later?.inputs ?? [], outputs: [output] },
    { before: source.graph.consumers(output)[0] },
  );
  expect(await attention(source)).toBe('GroupQueryAttention');
  const { model, warnings } = await applyRecipe(source, recipe);
  expect(warnings).toEqual([expect.stringContaining('stays in plain operators')]);
  expect(model.metadata.get(ATTENTION)).toBe('plain');
  expect(await attention(model)).toBeUndefined();
});
