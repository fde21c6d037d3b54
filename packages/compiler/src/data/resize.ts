/** Rows of pixels, channels last: `[height, width, channels]`, values 0 … 255. */
export interface Pixels {
  readonly width: number;
  readonly height: number;
  readonly channels: number;
  readonly data: Float32Array;
}

/**
 * Resizes with the centres of pixels at half (as ONNX Resize `half_pixel`, OpenCV `INTER_LINEAR`). Bilinear reads four
 * neighbours however much it shrinks: what models are trained with does the same.
 */
export function resize(from: Pixels, width: number, height: number, how: 'bilinear' | 'nearest'): Pixels {
  const { channels } = from;
  const data = new Float32Array(width * height * channels);
  const columns = taps(from.width, width, how);
  const rows = taps(from.height, height, how);
  let at = 0;
  for (const row of rows) {
    for (const column of columns) {
      for (let c = 0; c < channels; c++) {
        const value = (y: number, x: number) => from.data[(y * from.width + x) * channels + c] ?? 0;
        const upper = value(row.low, column.low) * (1 - column.share) + value(row.low, column.high) * column.share;
        const lower = value(row.high, column.low) * (1 - column.share) + value(row.high, column.high) * column.share;
        data[at++] = upper * (1 - row.share) + lower * row.share;
      }
    }
  }
  return { width, height, channels, data };
}

interface Tap {
  readonly low: number;
  readonly high: number;
  /** Of the higher one. */
  readonly share: number;
}

function taps(from: number, to: number, how: 'bilinear' | 'nearest'): readonly Tap[] {
  return Array.from({ length: to }, (_, i) => {
    const centre = ((i + 0.5) * from) / to - 0.5;
    if (how === 'nearest') {
      const nearest = Math.min(from - 1, Math.max(0, Math.floor(((i + 0.5) * from) / to)));
      return { low: nearest, high: nearest, share: 0 };
    }
    const low = Math.floor(centre);
    const clamp = (index: number): number => Math.min(from - 1, Math.max(0, index));
    return { low: clamp(low), high: clamp(low + 1), share: centre - low };
  });
}

/** A part of the picture, or a larger one around it filled with `pad`. */
export function place(from: Pixels, width: number, height: number, left: number, top: number, pad: number): Pixels {
  const { channels } = from;
  const data = new Float32Array(width * height * channels).fill(pad);
  for (let y = 0; y < height; y++) {
    const sourceY = y - top;
    if (sourceY < 0 || sourceY >= from.height) continue;
    for (let x = 0; x < width; x++) {
      const sourceX = x - left;
      if (sourceX < 0 || sourceX >= from.width) continue;
      const source = (sourceY * from.width + sourceX) * channels;
      for (let c = 0; c < channels; c++) data[(y * width + x) * channels + c] = from.data[source + c] ?? 0;
    }
  }
  return { width, height, channels, data };
}
