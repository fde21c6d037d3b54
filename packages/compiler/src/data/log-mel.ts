export interface LogMelOptions {
  /** Hz. */
  readonly rate: number;
  /** Samples of a frame. */
  readonly fft: number;
  /** Samples from one frame to the next. */
  readonly step: number;
  readonly bands: number;
}

/**
 * `ln(max(mel energy, 1e-10))` of frames under a periodic Hann window, bands as triangles that are even in mel
 * (`2595 · log10(1 + f / 700)`, HTK) from 0 Hz to half the rate.
 * @returns row-major `[frames, bands]`; frames = 1 + ⌊(samples − fft) / step⌋
 * @see Davis & Mermelstein 1980; the HTK Book §5.4
 */
export function logMel(samples: Float32Array, { rate, fft, step, bands }: LogMelOptions): Float32Array {
  const frames = samples.length < fft ? 0 : 1 + Math.floor((samples.length - fft) / step);
  const weights = melTriangles(rate, fft, bands);
  const result = new Float32Array(frames * bands);
  const power = powerSpectrum(fft);
  for (let frame = 0; frame < frames; frame++) {
    const spectrum = power(samples.subarray(frame * step, frame * step + fft));
    for (const [band, triangle] of weights.entries()) {
      let energy = 0;
      for (const { bin, weight } of triangle) energy += (spectrum[bin] ?? 0) * weight;
      result[frame * bands + band] = Math.log(Math.max(energy, 1e-10));
    }
  }
  return result;
}

/** A discrete Fourier transform by its definition, cosines from a table: frames are short, and any length is taken. */
function powerSpectrum(size: number): (frame: Float32Array) => Float64Array {
  const bins = Math.floor(size / 2) + 1;
  const cosines = Float64Array.from({ length: size }, (_, i) => Math.cos((2 * Math.PI * i) / size));
  const sines = Float64Array.from({ length: size }, (_, i) => Math.sin((2 * Math.PI * i) / size));
  return (frame) => {
    const power = new Float64Array(bins);
    for (let bin = 0; bin < bins; bin++) {
      let [real, imaginary] = [0, 0];
      for (let i = 0; i < size; i++) {
        const windowed = (frame[i] ?? 0) * (0.5 - 0.5 * (cosines[i] ?? 0));
        const turn = (i * bin) % size;
        real += windowed * (cosines[turn] ?? 0);
        imaginary -= windowed * (sines[turn] ?? 0);
      }
      power[bin] = real * real + imaginary * imaginary;
    }
    return power;
  };
}

function melTriangles(rate: number, fft: number, bands: number): { readonly bin: number; readonly weight: number }[][] {
  const mel = (hertz: number): number => 2595 * Math.log10(1 + hertz / 700);
  const hertz = (value: number): number => 700 * (10 ** (value / 2595) - 1);
  const edges = Array.from({ length: bands + 2 }, (_, i) => hertz((mel(rate / 2) * i) / (bands + 1)));
  return Array.from({ length: bands }, (_, band) => {
    const [low = 0, middle = 0, high = 0] = edges.slice(band, band + 3);
    const triangle: { bin: number; weight: number }[] = [];
    for (let bin = 0; bin <= fft / 2; bin++) {
      const f = (bin * rate) / fft;
      const weight = Math.min((f - low) / (middle - low), (high - f) / (high - middle));
      if (weight > 0) triangle.push({ bin, weight });
    }
    return triangle;
  });
}
