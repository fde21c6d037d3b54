/** In pixels; the right and lower ends are excluded. */
export type Box = readonly [x0: number, y0: number, x1: number, y1: number];

/** Thinner boxes are specks (PaddleOCR's `min_size`). */
const THINNEST = 3;
const SAME = 0.5;

/**
 * Bounding boxes of the connected parts (4 neighbours) of a map above a threshold, in reading order of their first pixel.
 * @param least mean of the map over the box (PaddleOCR's `box_thresh`, `box_score_fast`); fainter boxes are none
 */
export function boxesOf(
  { data, height, width }: { readonly data: Float32Array; readonly height: number; readonly width: number },
  threshold: number,
  least: number,
): readonly Box[] {
  const seen = new Uint8Array(data.length);
  const boxes: Box[] = [];
  for (let start = 0; start < data.length; start++) {
    if (seen[start] === 1 || !((data[start] ?? 0) > threshold)) continue;
    let [x0, y0, x1, y1] = [width, height, 0, 0];
    const stack = [start];
    seen[start] = 1;
    for (let at = stack.pop(); at !== undefined; at = stack.pop()) {
      const [x, y] = [at % width, Math.floor(at / width)];
      [x0, y0, x1, y1] = [Math.min(x0, x), Math.min(y0, y), Math.max(x1, x + 1), Math.max(y1, y + 1)];
      const around = [x > 0 ? at - 1 : at, x + 1 < width ? at + 1 : at, at - width, at + width];
      for (const next of around) {
        if (next < 0 || next >= data.length || seen[next] === 1 || !((data[next] ?? 0) > threshold)) continue;
        seen[next] = 1;
        stack.push(next);
      }
    }
    const isThin = x1 - x0 < THINNEST || y1 - y0 < THINNEST;
    if (!isThin && meanOver(data, width, [x0, y0, x1, y1]) >= least) boxes.push([x0, y0, x1, y1]);
  }
  return boxes;
}

function meanOver(data: Float32Array, width: number, [x0, y0, x1, y1]: Box): number {
  let sum = 0;
  for (let y = y0; y < y1; y++) for (let x = x0; x < x1; x++) sum += data[y * width + x] ?? 0;
  return sum / areaOf([x0, y0, x1, y1]);
}

/** How many boxes have a partner with an intersection over union of at least 0.5; the closest pairs first, each box once. */
export function countMatches(found: readonly Box[], wanted: readonly Box[]): number {
  const pairs = found
    .flatMap((a, i) => wanted.map((b, j) => ({ i, j, overlap: overlapOf(a, b) })))
    .filter(({ overlap }) => overlap >= SAME)
    .toSorted((a, b) => b.overlap - a.overlap || a.i - b.i || a.j - b.j);
  const [used, taken] = [new Set<number>(), new Set<number>()];
  for (const { i, j } of pairs) {
    if (used.has(i) || taken.has(j)) continue;
    used.add(i);
    taken.add(j);
  }
  return used.size;
}

/** Intersection over union. */
function overlapOf(a: Box, b: Box): number {
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
  const height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  if (width <= 0 || height <= 0) return 0;
  const both = width * height;
  return both / (areaOf(a) + areaOf(b) - both);
}

function areaOf([x0, y0, x1, y1]: Box): number {
  return (x1 - x0) * (y1 - y0);
}
