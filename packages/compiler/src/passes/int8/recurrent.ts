import type { Node } from '@flotilla/onnx';
import { pairSafeScale } from '@flotilla/quant';
import { floats } from '@flotilla/onnx';
import { floatConstant } from '../edit.ts';
import { storeConstant, type StoredConstants } from './weights.ts';

const recurrentOps = new Set(['LSTM', 'GRU', 'RNN']);

export const isRecurrent = (node: Node): boolean => node.domain === '' && recurrentOps.has(node.opType);

/**
 * Stores both weights of LSTM, GRU or RNN (`[directions, gates · hidden, depth]`) in int8, one scale per gate and unit
 * for all directions. The scales leave room for x86's sums of 16 bits, so that a kernel may compute with them.
 * @returns false where a weight is no float32 constant; nothing is changed then
 */
export function storeRecurrent(node: Node, stored: StoredConstants): boolean {
  const weights = [1, 2].map((index) => floatConstant(node, index));
  if (!weights.every((weight) => weight?.dims.length === 3)) return false;
  for (const [i, weight] of weights.entries()) {
    if (!weight) continue;
    const [directions = 1, units = 1, depth = 1] = weight.dims;
    const w = floats(weight);
    const leastScale = new Float32Array(units);
    for (let d = 0; d < directions; d++) {
      const own = pairSafeScale(w.subarray(d * units * depth, (d + 1) * units * depth), units);
      for (const [unit, scale] of own.entries()) leastScale[unit] = Math.max(leastScale[unit] ?? 0, scale);
    }
    storeConstant(node, i + 1, { weight, axis: 1, leastScale }, stored);
  }
  return true;
}
