import { Rotation } from '@flotilla/quant';
import { expect, test } from 'vitest';

test.each([1, 2, 64, 96, 7])('%i channels: rows are orthonormal', (length) => {
  const rotation = new Rotation(length, 3);
  const columns = Array.from({ length }, (_, i) => {
    const v = Float64Array.from({ length }, (__, k) => Number(k === i));
    rotation.apply(v);
    return v;
  });
  for (const [i, a] of columns.entries()) {
    for (const [j, b] of columns.entries()) {
      const product = a.reduce((sum, value, k) => sum + value * b[k]!, 0);
      expect(product).toBeCloseTo(Number(i === j), 12);
    }
  }
});

test('by hand: four channels, up to the signs of the seed', () => {
  const v = Float64Array.of(8, 0, 0, 0);
  new Rotation(4, 1).apply(v);
  expect([...v].map(Math.abs)).toEqual([4, 4, 4, 4]);
});

test('one seed, one matrix; lengths without a power of two are refused', () => {
  const apply = (seed: number) => {
    const v = Float64Array.from({ length: 64 }, (_, i) => i);
    new Rotation(64, seed).apply(v);
    return [...v];
  };
  expect(apply(1)).toEqual(apply(1));
  expect(apply(1)).not.toEqual(apply(2));
  expect(() => new Rotation(2053, 1)).toThrow(expect.objectContaining({ code: 'quant/shape' }));
  expect(() => new Rotation(0, 1)).toThrow(expect.objectContaining({ code: 'quant/shape' }));
});
