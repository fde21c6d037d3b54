import { readFileSync } from 'node:fs';
import { dequantizeFourBit, nestAbsMax, quantizeFourBit, unnestAbsMax } from '@flotilla/quant';
import { expect, test } from 'vitest';
import { dynamicMap } from '../src/nf4/dynamic-map.ts';
import { FP4, NF4 } from '../src/nf4/levels.ts';

interface Case {
  format: 'nf4' | 'fp4';
  block: number;
  w: number[];
  packed: number[];
  absMax: number[];
  dequantized: number[];
}
const reference = JSON.parse(readFileSync(new URL('fixtures/nf4-reference.json', import.meta.url), 'utf8')) as {
  levels: { nf4: number[]; fp4: number[] };
  cases: Case[];
  map: number[];
  nested: { given: number[]; offset: number; codes: number[]; absMax: number[]; dequantized: number[] };
};

test('levels are those of bitsandbytes’ library', () => {
  expect([...NF4.levels]).toEqual(reference.levels.nf4);
  expect([...FP4.levels].map((level) => level + 0)).toEqual(reference.levels.fp4.map((level) => level + 0));
});

test.each(reference.cases.map((c) => [`${c.format}, ${c.w.length} weights in blocks of ${c.block}`, c] as const))(
  '%s: codes by brute force, weights as the library dequantizes them',
  (_, { format, block, w, packed, absMax, dequantized }) => {
    const blocks = quantizeFourBit(Float32Array.from(w), { format, block });
    expect([...blocks.packed]).toEqual(packed);
    expect([...blocks.absMax]).toEqual(absMax);
    expect([...dequantizeFourBit(blocks, { format, block, count: w.length })]).toEqual(dequantized);
  },
);

test('by hand: the first element lies in the high nibble; a value midway goes to the lower level', () => {
  const { packed, absMax } = quantizeFourBit(Float32Array.of(-2, 2, 0, -0), { format: 'nf4', block: 4 });
  expect([...packed, ...absMax]).toEqual([0x0f, 0x77, 2]);
  const midway = quantizeFourBit(Float32Array.of(1, 10 / 24), { format: 'fp4', block: 2 }); // between 4/12 and 6/12
  expect(midway.packed[0]).toBe(0x34);
});

test('nested maxima: codes, scales and values as the library makes them', () => {
  const { given, offset, codes, absMax, dequantized } = reference.nested;
  expect([...dynamicMap()]).toEqual(reference.map);
  const nested = nestAbsMax(Float32Array.from(given));
  expect(nested.offset).toBe(offset);
  expect([...nested.codes]).toEqual(codes);
  expect([...nested.absMax]).toEqual(absMax);
  expect([...unnestAbsMax(nested)]).toEqual(dequantized);
});

test('#22 zeros, one outlier, subnormals: finite, and zero stays zero', () => {
  for (const values of [
    [0, 0],
    [1e38, 1],
    [1e-44, -1e-44],
    [-0, 0],
  ]) {
    const blocks = quantizeFourBit(Float32Array.from(values), { format: 'nf4', block: 2 });
    const back = dequantizeFourBit(blocks, { format: 'nf4', block: 2, count: 2 });
    for (const [i, value] of values.entries())
      expect(Math.abs(back[i]! - Math.fround(value))).toBeLessThanOrEqual(blocks.absMax[0]!);
  }
  expect([...unnestAbsMax(nestAbsMax(Float32Array.of(0.5, 0.5)))]).toEqual([0.5, 0.5]);
});

test('#36 odd lengths, block 0, NaN maxima and a missing nested offset are refused', () => {
  const w = Float32Array.of(1, 2, 3, 4);
  const shape = expect.objectContaining({ code: 'quant/shape' });
  for (const block of [0, 3, -2, 1.5]) expect(() => quantizeFourBit(w, { format: 'nf4', block })).toThrow(shape);
  expect(() => quantizeFourBit(w.subarray(1), { format: 'nf4', block: 2 })).toThrow('3 weights');
  const blocks = quantizeFourBit(w, { format: 'nf4', block: 2 });
  const options = { format: 'nf4', block: 2, count: 4 } as const;
  expect(() => dequantizeFourBit(blocks, { ...options, block: 0 })).toThrow(shape);
  expect(() => dequantizeFourBit(blocks, { ...options, count: 3 })).toThrow(shape);
  expect(() => dequantizeFourBit(blocks, { ...options, count: 6 })).toThrow(shape);
  expect(() => dequantizeFourBit(blocks, { ...options, levels: new Float32Array(8) })).toThrow(shape);
  const notFinite = (message: string) => expect.objectContaining({ code: 'quant/not-finite', message });
  expect(() => dequantizeFourBit({ ...blocks, absMax: Float32Array.of(1, Number.NaN) }, options)).toThrow(
    notFinite('absmax 1 is NaN'),
  );
  expect(() => quantizeFourBit(Float32Array.of(1, Infinity), { format: 'fp4', block: 2 })).toThrow(
    notFinite('weight 1 is Infinity'),
  );
  const nested = nestAbsMax(blocks.absMax);
  expect(() => unnestAbsMax({ ...nested, offset: Number.NaN })).toThrow(notFinite('the nested offset is NaN'));
  expect(() => unnestAbsMax({ ...nested, absMax: new Float32Array(2) })).toThrow(shape);
  expect(() => unnestAbsMax({ ...nested, block: 0 })).toThrow(shape);
});

test('#36 every byte holds two codes that exist: none is above 15', () => {
  const packed = Uint8Array.from({ length: 256 }, (_, byte) => byte);
  const back = dequantizeFourBit({ packed, absMax: Float32Array.of(1) }, { format: 'nf4', block: 512, count: 512 });
  expect(new Set(back)).toEqual(new Set(NF4.levels));
});
