import { QuantError } from '../errors.ts';

export interface LoraFactors {
  /** `lora_A`, row-major `[rank, inFeatures]`. */
  readonly a: Float32Array;
  /** `lora_B`, row-major `[outFeatures, rank]`. */
  readonly b: Float32Array;
  readonly rank: number;
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** α / r, or α / √r for rsLoRA. */
  readonly scale: number;
}

/**
 * What a low-rank adapter adds to a linear layer's weight: `scale · B · A`, summed in float64, in one fixed order.
 * @returns row-major `[outFeatures, inFeatures]`
 * @throws {QuantError} `quant/shape` if a factor is not as long as its shape says; `quant/not-finite`
 * @see Hu et al. 2021, LoRA, equation 3; rsLoRA's scale: Kalajdzievski 2023
 */
export function loraDelta({ a, b, rank, inFeatures, outFeatures, scale }: LoraFactors): Float32Array {
  if (rank < 1 || a.length !== rank * inFeatures || b.length !== outFeatures * rank) {
    const given = `A has ${a.length} and B ${b.length} elements`;
    throw new QuantError('quant/shape', `${given}, not [${rank}, ${inFeatures}] and [${outFeatures}, ${rank}]`);
  }
  if (!Number.isFinite(scale)) throw new QuantError('quant/not-finite', `LoRA scale is ${scale}`);
  checkFinite('lora_A', a);
  checkFinite('lora_B', b);
  const delta = new Float32Array(outFeatures * inFeatures);
  const row = new Float64Array(inFeatures);
  for (let o = 0; o < outFeatures; o++) {
    row.fill(0);
    for (let r = 0; r < rank; r++) {
      const factor = b[o * rank + r] * scale;
      for (let i = 0; i < inFeatures; i++) row[i] += factor * a[r * inFeatures + i];
    }
    delta.set(row, o * inFeatures);
  }
  return delta;
}

function checkFinite(name: string, values: Float32Array): void {
  for (let i = 0; i < values.length; i++) {
    if (!Number.isFinite(values[i])) throw new QuantError('quant/not-finite', `${name}[${i}] is ${values[i]}`);
  }
}
