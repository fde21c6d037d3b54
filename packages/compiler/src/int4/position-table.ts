/**
 * Whether a looked-up matrix is indexed by position (rotary sines and cosines, learned positions) and not by token.
 * Such rows follow one another smoothly: neighbours differ by far less than they measure. An embedding's neighbours are
 * strangers, whose distance is about twice their square.
 * @param rows row-major `[rows, width]`
 */
export function isPositionTable(rows: Float32Array, width: number): boolean {
  const count = rows.length / width;
  if (count < 4) return false;
  const stride = Math.max(1, Math.floor((count - 1) / 256));
  let distance = 0;
  let size = 0;
  for (let row = 0; row + 1 < count; row += stride) {
    for (let i = row * width; i < (row + 1) * width; i++) {
      const here = rows[i] ?? 0;
      distance += ((rows[i + width] ?? 0) - here) ** 2;
      size += here ** 2;
    }
  }
  return distance < 0.5 * size;
}
