import { elementCount, type Tensor } from '@flotilla/onnx';
import { floatsBetween } from '../kernels/tensor-parts.ts';

/**
 * Whether a looked-up matrix is indexed by position (rotary sines and cosines, learned positions) and not by token.
 * Such rows follow one another smoothly: neighbours differ by far less than they measure. An embedding's neighbours are
 * strangers, whose distance is about twice their square.
 * Some rows are read, not the table.
 * @param table float32, `[rows, width]`
 */
export function isPositionTable(table: Tensor, width: number): boolean {
  const count = elementCount(table) / width;
  if (count < 4) return false;
  const stride = Math.max(1, Math.floor((count - 1) / 256));
  let distance = 0;
  let size = 0;
  for (let row = 0; row + 1 < count; row += stride) {
    const pair = floatsBetween(table, row * width, (row + 2) * width);
    for (let i = 0; i < width; i++) {
      const here = pair[i] ?? 0;
      distance += ((pair[i + width] ?? 0) - here) ** 2;
      size += here ** 2;
    }
  }
  return distance < 0.5 * size;
}
