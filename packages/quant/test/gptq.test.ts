import { readFileSync } from 'node:fs';
import {
  bfloat16ToFloat32,
  dequantizeInt4,
  factorHessian,
  float32ToBfloat16,
  gptqInt4,
  packNibbles,
  quantizeInt4,
  shiftWeights,
  unpackNibbles,
} from '@flotilla/quant';
import { expect, test } from 'vitest';

interface Reference {
  rows: number;
  cols: number;
  w: number[];
  hessian: number[];
  order: number[];
  /** Of the damped, reordered Hessian's inverse: numpy's Cholesky factor, upper. */
  upper: number[];
}
const reference = JSON.parse(
  readFileSync(new URL('fixtures/gptq-reference.json', import.meta.url), 'utf8'),
) as Reference;
const { rows, cols } = reference;
const w = Float32Array.from(reference.w);
const hessian = Float64Array.from(reference.hessian);
const options = { rows, cols, block: 8 };
const factor = factorHessian(hessian, cols);

test('levels are those of GPTQ walked by hand along numpy’s Cholesky factor', () => {
  const made = gptqInt4(w, factor, options);
  const zeros = unpackNibbles(made.zeroPoint!, rows * 3);
  const expected = new Uint8Array(rows * cols);
  const { order, upper } = reference;
  for (let r = 0; r < rows; r++) {
    const row = order.map((column) => reference.w[r * cols + column]!);
    for (const [i, column] of order.entries()) {
      const block = r * 3 + Math.floor(column / 8);
      const [scale, zero] = [made.scale[block]!, zeros[block]!];
      const level = Math.min(15, Math.max(0, Math.round(row[i]! / scale) + zero));
      expected[r * cols + column] = level;
      const error = (row[i]! - (level - zero) * scale) / upper[i * cols + i]!;
      for (let j = i + 1; j < cols; j++) row[j]! -= error * upper[i * cols + j]!;
    }
  }
  expect([...unpackNibbles(made.q, rows * cols)]).toEqual([...expected]);
});

test('the layer’s output errs at least three times less than by rounding to nearest', () => {
  const nearest = outputError(dequantizeInt4(quantizeInt4(w, options), options));
  const steered = outputError(dequantizeInt4(gptqInt4(w, factor, options), options));
  expect(steered).toBeLessThan(nearest / 3);
});

test('looking back leaves no level whose move, and no scale whose change, would bring the error down', () => {
  const walked = outputError(dequantizeInt4(gptqInt4(w, factor, options), options));
  const made = gptqInt4(w, factor, { ...options, sweeps: 100 });
  const least = outputError(dequantizeInt4(made, options), factor.hessian);
  expect(outputError(dequantizeInt4(made, options))).toBeLessThan(0.97 * walked);
  const levels = unpackNibbles(made.q, rows * cols);
  for (let i = 0; i < levels.length; i++) {
    for (const level of [levels[i]! - 1, levels[i]! + 1].filter((other) => other >= 0 && other <= 15)) {
      const q = packNibbles(levels.with(i, level));
      expect(outputError(dequantizeInt4({ ...made, q }, options), factor.hessian)).toBeGreaterThan(least * 0.999999);
    }
  }
  for (let b = 0; b < made.scale.length; b++) {
    for (const share of [0.99, 1.01]) {
      const scale = made.scale.with(b, made.scale[b]! * share);
      expect(outputError(dequantizeInt4({ ...made, scale }, options), factor.hessian)).toBeGreaterThan(
        least * 0.999999,
      );
    }
  }
  for (const scale of gptqInt4(w, factor, { ...options, bf16Scales: true, sweeps: 4 }).scale)
    expect(bfloat16ToFloat32(float32ToBfloat16(Float32Array.of(scale)))[0]).toBe(scale);
});

test('an input that was always 0 does no harm', () => {
  const silent = hessian.slice();
  for (let i = 0; i < cols; i++) silent[3 * cols + i] = silent[i * cols + 3] = 0;
  const back = dequantizeInt4(gptqInt4(w, factorHessian(silent, cols), options), options);
  for (let r = 0; r < rows; r++) expect(Math.abs(back[r * cols + 3]! - w[r * cols + 3]!)).toBeLessThan(0.3);
});

test('a layer that only ever saw zeros is rounded to nearest', () => {
  const silent = factorHessian(new Float64Array(cols * cols), cols);
  expect(gptqInt4(w, silent, options)).toEqual(quantizeInt4(w, options));
});

test('weights shifted for what the input has lost, by hand: W + W·C·H⁻¹', () => {
  // H⁻¹ is [[4, −1], [−1, 2]] / 7, its columns walked in the other order; W·C is [14, 7], then [7, 7].
  const two = factorHessian(Float64Array.of(2, 1, 1, 4), 2, 0);
  const cross = Float64Array.of(0, 7, 7, 0);
  const moved = shiftWeights(Float32Array.of(1, 2, 1, 1), two, cross);
  for (const [i, value] of [1 + 7, 2 + 0, 1 + 3, 1 + 1].entries()) expect(moved[i]).toBeCloseTo(value, 5);
  expect(() => shiftWeights(w, factor, cross)).toThrow(expect.objectContaining({ code: 'quant/shape' }));
});

test('no other weights come nearer to what the layer gave before its input changed', () => {
  const samples = 60;
  const x = Float64Array.from({ length: samples * cols }, (_, i) => Math.sin(i * i * 0.37));
  const now = x.map((value, i) => 0.9 * value + 0.2 * Math.cos(i * 1.7));
  const [along, cross] = [new Float64Array(cols * cols), new Float64Array(cols * cols)];
  for (let s = 0; s < samples * cols; s += cols) {
    for (let i = 0; i < cols; i++) {
      for (let j = 0; j < cols; j++) {
        along[i * cols + j]! += now[s + i]! * now[s + j]!;
        cross[i * cols + j]! += (x[s + i]! - now[s + i]!) * now[s + j]!;
      }
    }
  }
  const moved = shiftWeights(w, factorHessian(along, cols, 0), cross);
  const row = (weights: Float32Array, r: number, of: Float64Array, s: number): number =>
    weights.subarray(r * cols, (r + 1) * cols).reduce((sum, weight, k) => sum + weight * of[s * cols + k]!, 0);
  const [lost, left] = [w, moved].map((weights) => {
    let sum = 0;
    for (let s = 0; s < samples; s++)
      for (let r = 0; r < rows; r++) sum += (row(weights, r, now, s) - row(w, r, x, s)) ** 2;
    return sum;
  });
  expect(left).toBeLessThan(0.9 * lost!);
  // At the least of a sum of squares, what is left lies across every input.
  for (let r = 0; r < rows; r++) {
    for (let k = 0; k < cols; k++) {
      let slope = 0;
      for (let s = 0; s < samples; s++) slope += (row(moved, r, now, s) - row(w, r, x, s)) * now[s * cols + k]!;
      expect(Math.abs(slope)).toBeLessThan(1e-3);
    }
  }
});

test('a Hessian with NaN, or of another size is refused', () => {
  expect(() =>
    factorHessian(
      hessian.map(() => Number.NaN),
      cols,
    ),
  ).toThrow('NaN');
  expect(() => factorHessian(hessian, 9)).toThrow(expect.objectContaining({ code: 'quant/shape' }));
  expect(() => gptqInt4(w, factor, { ...options, cols: 12 })).toThrow(expect.objectContaining({ code: 'quant/shape' }));
});

function outputError(back: Float32Array, along: Float64Array = hessian): number {
  let sum = 0;
  for (let r = 0; r < rows; r++) {
    for (let i = 0; i < cols; i++) {
      for (let j = 0; j < cols; j++) {
        const [a, b] = [w[r * cols + i]! - back[r * cols + i]!, w[r * cols + j]! - back[r * cols + j]!];
        sum += a * along[i * cols + j]! * b;
      }
    }
  }
  return sum;
}
