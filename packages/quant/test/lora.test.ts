import { readFileSync } from 'node:fs';
import { addLowRank, loraDelta } from '@flotilla/quant';
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

test('a low-rank change of some outputs, in either layout, with a gain: to the last bit as in float32', () => {
  const layer = { inFeatures: 5, outFeatures: 6 };
  const base = Float32Array.from({ length: 30 }, (_, i) => Math.fround(Math.sin(i)));
  const gain = Float32Array.of(0.9, 1.1, 1, -2);
  const change = { ...factors, begin: 1, end: 5, gain };
  const delta = loraDelta({ ...factors, scale: 1 });
  const expected = base.slice();
  for (let o = 0; o < 4; o++)
    for (let i = 0; i < 5; i++) {
      const at = (o + 1) * 5 + i;
      expected[at] = Math.fround(Math.fround(base[at]! * gain[o]!) + delta[o * 5 + i]!);
    }
  const rows = base.slice();
  addLowRank(rows, { ...layer, isInOut: false }, change);
  expect(rows).toEqual(expected);
  const turned = (w: Float32Array, count: number) =>
    w.map((_, at) => w[(at % count) * (30 / count) + Math.floor(at / count)]!);
  const columns = turned(base, 6);
  addLowRank(columns, { ...layer, isInOut: true }, change);
  expect(turned(columns, 5)).toEqual(expected);
});
