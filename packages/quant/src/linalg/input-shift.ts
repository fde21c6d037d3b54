import { QuantError } from '../errors.ts';
import type { HessianFactor } from './hessian.ts';

/**
 * Weights that make up for what the layer's input has lost. With x the input in the float model and x̂ the one that the
 * layer will see, `Σ |Q·x̂ − W·x|²` is, but for a constant, `Σ |(Q − W′)·x̂|²` with `W′ = W + W·C·H⁻¹`, where
 * `C = Σ (x − x̂)·x̂ᵀ` and `H = Σ x̂·x̂ᵀ`. So GPTQ of W′ along H has the asymmetric objective without knowing of it.
 * @param w row-major `[rows, cols]`
 * @param factor of H; its damping keeps the shift small where x̂ has little energy
 * @param cross C, row-major `[cols, cols]`
 * @returns W′
 * @throws {QuantError} `quant/shape`
 * @see Arai and Ichikawa 2025, QEP, arXiv 2504.09629 (the shift, at full strength); Li et al. 2025, GPTAQ, arXiv 2504.02692
 * (the objective, asymmetric calibration, whose shift they spread over the walk)
 */
export function shiftWeights(
  w: Float32Array,
  { cols, order, upper }: HessianFactor,
  cross: Float64Array,
): Float32Array {
  if (w.length % cols !== 0 || cross.length !== cols * cols)
    throw new QuantError('quant/shape', `${w.length} weights and ${cross.length} products for ${cols} columns`);
  const result = new Float32Array(w.length);
  const [lost, given, half, whole] = Array.from({ length: 4 }, () => new Float64Array(cols));
  for (let first = 0; first < w.length; first += cols) {
    lost.fill(0);
    for (let k = 0; k < cols; k++) for (let j = 0; j < cols; j++) lost[j] += w[first + k] * cross[k * cols + j];
    for (let i = 0; i < cols; i++) given[i] = lost[order[i]];
    // H⁻¹ is UᵀU: first U·v, then Uᵀ of that, both along U's rows.
    half.fill(0);
    whole.fill(0);
    for (let i = 0; i < cols; i++) {
      for (let j = i; j < cols; j++) half[i] += upper[i * cols + j] * given[j];
      for (let j = i; j < cols; j++) whole[j] += upper[i * cols + j] * half[i];
    }
    for (let i = 0; i < cols; i++) result[first + order[i]] = w[first + order[i]] + whole[i];
  }
  return result;
}
