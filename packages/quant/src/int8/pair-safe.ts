import { QuantError } from '../errors.ts';

/**
 * Per channel, the least scale at which no two neighbouring products overflow 16 bits: x86 without VNNI multiplies u8 by
 * s8 in pairs and adds each pair in int16 (`vpmaddubsw`, saturating), so `255 · |q₂ᵢ + q₂ᵢ₊₁| ≤ 32,767` must hold.
 * That is `|qₐ + q_b| ≤ 128` for neighbours, not `|q| ≤ 64` for each: weights seldom peak side by side, so this costs a
 * fraction of the bit that a reduced range costs. Which neighbours form a pair depends on the kernel's packing; all do here.
 * @param w weights, row-major `[channels, depth, kernel]` (`kernel` 1 for a matrix), or `[depth, channels]` if `channelsLast`
 * @returns `[channels]`; rounding is allowed for: 127 of 128
 * @throws {QuantError} `quant/shape` where the lengths do not divide
 */
export function pairSafeScale(
  w: Float32Array,
  channels: number,
  options: { readonly kernel?: number | undefined; readonly channelsLast?: boolean | undefined } = {},
): Float32Array {
  const { kernel = 1, channelsLast = false } = options;
  const size = w.length / channels;
  const depth = size / kernel;
  if (!Number.isInteger(size) || !Number.isInteger(depth))
    throw new QuantError('quant/shape', `${w.length} weights in ${channels} channels of ${kernel}`);
  const [step, start] = channelsLast ? [channels, 1] : [1, size];
  const least = new Float32Array(channels);
  for (let c = 0; c < channels; c++) {
    let peak = 0;
    // As they lie, and with the depth innermost, as kernels for images pack them.
    for (let i = 1; i < size; i++) {
      const lying = Math.abs(w[c * start + i * step] + w[c * start + (i - 1) * step]);
      const packed = Math.abs(
        w[c * start + packedIndex(i, depth, kernel) * step] + w[c * start + packedIndex(i - 1, depth, kernel) * step],
      );
      peak = Math.max(peak, lying, packed);
    }
    least[c] = peak / 127;
  }
  return least;
}

/** Where the i-th weight of `[kernel, depth]` order lies in `[depth, kernel]` order. */
function packedIndex(i: number, depth: number, kernel: number): number {
  return (i % depth) * kernel + Math.floor(i / depth);
}
