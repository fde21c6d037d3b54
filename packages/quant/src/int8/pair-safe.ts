import { QuantError } from '../errors.ts';

/** Where weights' rows lie: `[channels, depth, kernel]` (`kernel` 1 for a matrix), or `[depth, channels]` if `channelsLast`. */
export interface PairLayout {
  readonly kernel?: number | undefined;
  readonly channelsLast?: boolean | undefined;
}

/**
 * Per channel, the least scale at which no two neighbouring products overflow 16 bits: x86 without VNNI multiplies u8 by
 * s8 in pairs and adds each pair in int16 (`vpmaddubsw`, saturating), so `255 · |q₂ᵢ + q₂ᵢ₊₁| ≤ 32,767` must hold.
 * That is `|qₐ + q_b| ≤ 128` for neighbours, not `|q| ≤ 64` for each: weights seldom peak side by side, so this costs a
 * fraction of the bit that a reduced range costs. Which neighbours form a pair depends on the kernel's packing; all do here.
 * @returns `[channels]`; rounding is allowed for: 127 of 128
 * @throws {QuantError} `quant/shape` where the lengths do not divide
 */
export function pairSafeScale(w: Float32Array, channels: number, layout: PairLayout = {}): Float32Array {
  return Float32Array.from(pairPeaks(w, channels, layout), (peak) => peak / 127);
}

/** Largest |qₐ + q_b| of neighbours per channel: above 128, sums of 16 bits overflow. */
export function pairPeaks(w: ArrayLike<number>, channels: number, layout: PairLayout = {}): Float64Array {
  const { kernel = 1, channelsLast = false } = layout;
  const size = w.length / channels;
  const depth = size / kernel;
  if (!Number.isInteger(size) || !Number.isInteger(depth))
    throw new QuantError('quant/shape', `${w.length} weights in ${channels} channels of ${kernel}`);
  if (channelsLast && kernel === 1) return neighbourPeaks(w, channels);
  const [step, start] = channelsLast ? [channels, 1] : [1, size];
  const peaks = new Float64Array(channels);
  for (let c = 0; c < channels; c++) {
    const at = (i: number) => w[c * start + i * step];
    // As they lie, and with the depth innermost, as kernels for images pack them.
    for (let i = 1; i < size; i++) {
      const packed = at(packedIndex(i, depth, kernel)) + at(packedIndex(i - 1, depth, kernel));
      peaks[c] = Math.max(peaks[c], Math.abs(at(i) + at(i - 1)), Math.abs(packed));
    }
  }
  return peaks;
}

/** `[depth, channels]`, row by row as it lies in memory. */
function neighbourPeaks(w: ArrayLike<number>, channels: number): Float64Array {
  const peaks = new Float64Array(channels);
  for (let first = channels; first < w.length; first += channels) {
    for (let c = 0; c < channels; c++) {
      const sum = Math.abs(w[first + c] + w[first + c - channels]);
      if (sum > peaks[c]) peaks[c] = sum;
    }
  }
  return peaks;
}

/** Where the i-th weight of `[kernel, depth]` order lies in `[depth, kernel]` order. */
function packedIndex(i: number, depth: number, kernel: number): number {
  return (i % depth) * kernel + Math.floor(i / depth);
}
