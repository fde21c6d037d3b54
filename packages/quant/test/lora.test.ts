import { readFileSync } from 'node:fs';
import { loraDelta } from '@flotilla/quant';
import { expect, test } from 'vitest';

interface Reference {
  lora: { a: number[]; b: number[]; scale: number; delta: number[] };
}
const { lora } = JSON.parse(
  readFileSync(new URL('fixtures/int4-reference.json', import.meta.url), 'utf8'),
) as Reference;
const factors = {
  a: Float32Array.from(lora.a),
  b: Float32Array.from(lora.b),
  rank: 3,
  inFeatures: 5,
  outFeatures: 4,
  scale: 2,
};

test('scale · B · A equals numpy’s', () => {
  const delta = loraDelta(factors);
  delta.forEach((value, i) => expect(value).toBeCloseTo(lora.delta[i]!, 5));
});

test('#34 swapped factors, rank 0, a NaN in a factor, α NaN: refused', () => {
  expect(() => loraDelta({ ...factors, a: factors.b, b: factors.a })).toThrow('A has 12 and B 15 elements');
  expect(() => loraDelta({ ...factors, rank: 0 })).toThrow('not [0, 5] and [4, 0]');
  expect(() => loraDelta({ ...factors, scale: Number.NaN })).toThrow('LoRA scale is NaN');
  const a = factors.a.slice();
  a[7] = Number.NaN;
  expect(() => loraDelta({ ...factors, a })).toThrow(expect.objectContaining({ message: 'lora_A[7] is NaN' }));
});
