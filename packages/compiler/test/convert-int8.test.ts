import { floats, tensorFromInts } from '@flotilla/onnx';
import { expect, test } from 'vitest';
import { applyRecipe, builtInRecipe } from '../src/index.ts';
import { build, noise, node } from './small-models.ts';

test('--weights int8 --activations none: every weight int8 with a scale per output, nothing measured', async () => {
  const nodes = [node('Gather', ['table', 'ids'], {}, 'rows'), node('MatMul', ['rows', 'w'], {}, 'y', 'product')];
  const initializers = { table: noise([100, 64]), w: noise([64, 48]), ids: tensorFromInts('int64', [2], [1, 5]) };
  const { model, notes } = await applyRecipe(build(nodes, initializers, [1]), builtInRecipe('int8', 'none'));
  expect(notes.map(({ outcome, reason }) => [outcome, reason])).toEqual([
    ['quantized', 'int8 per channel: weights alone'],
    ['quantized', 'int8 per channel: the last layer'],
  ]);
  const scales = [...model.graph.walk({ opType: 'DequantizeLinear' })].map((dequantize) => {
    const scale = model.graph.constant(dequantize.inputs[1] ?? '');
    return scale && floats(scale).length;
  });
  expect(new Set(scales)).toEqual(new Set([100, 48]));
  expect([...model.graph.walk({ opType: 'QuantizeLinear' })]).toHaveLength(0);
});
