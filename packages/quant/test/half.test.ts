import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { bfloat16ToFloat32, float16ToFloat32, float32ToBfloat16, float32ToFloat16 } from '@flotilla/quant';
import { expect, test } from 'vitest';

const fixture = (name: string): Uint8Array => readFileSync(new URL(`fixtures/${name}`, import.meta.url));
const reference = JSON.parse(new TextDecoder().decode(fixture('int4-reference.json'))) as {
  finiteHalvesSha256: string;
  narrowedSha256: string;
};

test('every binary16 widens as numpy widens it, and narrows back to itself', () => {
  const halves = Uint16Array.from({ length: 65536 }, (_, i) => i);
  const wide = float16ToFloat32(halves);
  const finite = wide.filter((value) => Number.isFinite(value));
  expect(sha256(finite)).toBe(reference.finiteHalvesSha256);
  expect([wide[0x7c00], wide[0xfc00], wide[0x7e00]]).toEqual([Infinity, -Infinity, Number.NaN]);
  const back = float32ToFloat16(wide);
  expect(back.every((half, i) => half === i || Number.isNaN(wide[i]))).toBe(true);
});

test('20,009 float32 values narrow to binary16 as numpy narrows them', () => {
  const probe = new Float32Array(new Uint8Array(fixture('half-probe.f32')).buffer);
  expect(sha256(float32ToFloat16(probe))).toBe(reference.narrowedSha256);
});

test('bfloat16 by hand: 1, the tie between two neighbours, NaN', () => {
  const values = Float32Array.of(1, 1 + 2 ** -8, 1 + 3 * 2 ** -8, Number.NaN, -Infinity);
  const halves = float32ToBfloat16(values);
  expect([...halves.subarray(0, 3)]).toEqual([0x3f80, 0x3f80, 0x3f82]);
  expect([...bfloat16ToFloat32(halves)]).toEqual([1, 1, 1 + 2 ** -6, Number.NaN, -Infinity]);
});

function sha256(values: Float32Array | Uint16Array): string {
  return createHash('sha256')
    .update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength))
    .digest('hex');
}
