import { QuantError } from '../errors.ts';

/** Added to a float64 and taken away again, it leaves the nearest integer, ties to even: 1.5 · 2⁵², for |x| < 2⁵¹. */
const EVEN = 6_755_399_441_055_744;

/** Weights in int8 with one scale per channel, zero point 0. */
export interface Int8Rows {
  /** As `w` lies. */
  readonly q: Int8Array;
  /** `[channels]`, in the unit of `w`; 1 where a channel is all zero. */
  readonly scale: Float32Array;
}

export interface Int8RowsOptions {
  /**
   * 8: ±127. 7: ±64, so that two u8·s8 products fit the 16 bits in which AVX2 without VNNI adds them
   * (255 · 64 · 2 = 32,640 < 32,767). Default 8.
   */
  readonly bits?: 8 | 7 | undefined;
  /** Elements behind the channel axis; default `w.length / channels` (channels first). 1: channels last. */
  readonly inner?: number | undefined;
  /** Least scale per channel: what keeps an int32 bias from overflowing (see `leastWeightScale`). */
  readonly leastScale?: Float32Array | undefined;
}

/**
 * Symmetric int8, one scale per channel: `scale = max|w| / 127`, `q = roundHalfEven(w / scale)`, in float32.
 * @param w weights, row-major `[outer, channels, inner]`
 * @throws {QuantError} `quant/shape` where the lengths do not divide; `quant/not-finite`, naming the index
 * @see ONNX QuantizeLinear-21 (ties to even). −128 is left unused, so that −w quantizes to −q.
 */
export function quantizeInt8(w: Float32Array, channels: number, options: Int8RowsOptions = {}): Int8Rows {
  const { bits = 8, inner = w.length / channels, leastScale } = options;
  if (!(channels > 0) || !Number.isInteger(inner) || !Number.isInteger(w.length / channels / inner))
    throw new QuantError('quant/shape', `${w.length} weights in ${channels} channels of ${inner}`);
  const most = bits === 8 ? 127 : 64;
  const peak = channelPeaks(w, channels, inner);
  const scale = new Float32Array(channels);
  for (let c = 0; c < channels; c++) {
    const step = Math.max(Math.fround(peak[c] / most), leastScale?.[c] ?? 0);
    // A subnormal step would make w / step overflow: such weights are zero for every practical purpose.
    scale[c] = step > 1.2e-38 ? step : 1;
  }
  return { q: roundToInt8(w, scale, { inner, most }), scale };
}

/** The weights that the integers stand for: `q · scale`, in float32. */
export function dequantizeInt8({ q, scale }: Int8Rows, inner: number): Float32Array {
  const w = new Float32Array(q.length);
  for (let i = 0; i < q.length; i++) w[i] = q[i] * scale[Math.floor(i / inner) % scale.length];
  return w;
}

/**
 * `roundHalfEven(w / scale)` in float32, cut off at `±most`.
 * @param w weights, row-major `[outer, channels, inner]`, one scale per channel
 */
export function roundToInt8(
  w: Float32Array,
  scale: Float32Array,
  { inner, most }: { readonly inner: number; readonly most: number },
): Int8Array {
  const q = new Int8Array(w.length);
  const channels = scale.length;
  if (inner === 1) {
    for (let first = 0; first < w.length; first += channels) {
      for (let c = 0; c < channels; c++) {
        // A quotient is over the end by rounding at most, unless a scale was given that is too small for its weights.
        const rounded = Math.fround(w[first + c] / scale[c]) + EVEN - EVEN;
        q[first + c] = Math.abs(rounded) <= most ? rounded : Math.sign(rounded) * most;
      }
    }
    return q;
  }
  for (let first = 0, c = 0; first < w.length; first += inner, c = c + 1 === channels ? 0 : c + 1) {
    const step = scale[c];
    for (let i = first; i < first + inner; i++) {
      const rounded = Math.fround(w[i] / step) + EVEN - EVEN;
      q[i] = Math.abs(rounded) <= most ? rounded : Math.sign(rounded) * most;
    }
  }
  return q;
}

/** `max|w|` per channel. @throws {QuantError} `quant/not-finite`, naming the index */
export function channelPeaks(w: Float32Array, channels: number, inner: number): Float32Array {
  const peak = new Float32Array(channels);
  if (inner === 1) {
    for (let first = 0; first < w.length; first += channels) {
      for (let c = 0; c < channels; c++) {
        const size = Math.abs(w[first + c]);
        if (!(size < Number.POSITIVE_INFINITY)) throw notFinite(w, first + c);
        if (size > peak[c]) peak[c] = size;
      }
    }
    return peak;
  }
  for (let first = 0, c = 0; first < w.length; first += inner, c = c + 1 === channels ? 0 : c + 1) {
    let most = peak[c];
    for (let i = first; i < first + inner; i++) {
      const size = Math.abs(w[i]);
      if (!(size < Number.POSITIVE_INFINITY)) throw notFinite(w, i);
      if (size > most) most = size;
    }
    peak[c] = most;
  }
  return peak;
}

function notFinite(w: Float32Array, index: number): QuantError {
  return new QuantError('quant/not-finite', `weight ${index} is ${w[index]}`);
}
