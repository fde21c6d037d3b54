import type { Tensor } from '@flotilla/onnx';

/** The weights `[start, end)` of a float32 tensor, in memory of their own: they may be handed to a thread. */
export function floatsBetween(tensor: Tensor, start: number, end: number): Float32Array<ArrayBuffer> {
  return new Float32Array(tensor.part(start * 4, end * 4).slice().buffer);
}

/** A part of a weight `[rows, cols, inner]` that is blocked along `cols`: its blocks are whole. */
export interface Slab {
  /** In weights; in blocks' scales. */
  readonly first: number;
  readonly firstScale: number;
  readonly count: number;
  readonly rows: number;
  readonly cols: number;
  readonly firstCol: number;
}

/** Weights in a slab, about: large enough that messages cost nothing, small enough for many threads. */
const SLAB = 1 << 20;

/** Cuts a weight into slabs that lie in one piece, with an even number of weights and of scales: two share a byte. */
export function slabsOf({ rows, cols, inner }: Sizes, block: number): readonly Slab[] {
  const perRow = Math.ceil(cols / block);
  const whole = { first: 0, firstScale: 0, count: rows * cols * inner, rows, cols, firstCol: 0 };
  if (whole.count <= SLAB) return [whole];
  if (rows > 1) {
    const step = 2 * Math.max(1, Math.floor(SLAB / (2 * cols * inner)));
    return starts(rows, step).map((row) => {
      const some = Math.min(step, rows - row);
      const at = { first: row * cols * inner, firstScale: row * perRow * inner };
      return { ...at, count: some * cols * inner, rows: some, cols, firstCol: 0 };
    });
  }
  const unit = inner % 2 === 0 ? block : 2 * block;
  const step = unit * Math.max(1, Math.floor(SLAB / (unit * inner)));
  return starts(cols, step).map((col) => {
    const some = Math.min(step, cols - col);
    const at = { first: col * inner, firstScale: (col / block) * inner };
    return { ...at, count: some * inner, rows: 1, cols: some, firstCol: col };
  });
}

interface Sizes {
  readonly rows: number;
  readonly cols: number;
  readonly inner: number;
}

function starts(length: number, step: number): readonly number[] {
  return Array.from({ length: Math.ceil(length / step) }, (_, i) => i * step);
}

/** Whole rows of `width` weights each, `[first, first + rows)`. */
export function rowsOf(count: number, width: number): readonly { readonly first: number; readonly rows: number }[] {
  const step = 2 * Math.max(1, Math.floor(SLAB / (2 * width)));
  return starts(count, step).map((first) => ({ first, rows: Math.min(step, count - first) }));
}
