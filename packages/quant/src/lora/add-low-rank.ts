import { loraDelta } from './delta.ts';

/** A linear layer's weights: outputs, inputs, and whether they are stored `[in, out]`, as MatMul reads them. */
export interface LayerShape {
  readonly inFeatures: number;
  readonly outFeatures: number;
  readonly isInOut: boolean;
}

/** A low-rank change of the outputs `[begin, end)`. */
export interface LowRankChange {
  readonly begin: number;
  readonly end: number;
  readonly rank: number;
  /** Row-major `[rank, inFeatures]`. */
  readonly a: Float32Array;
  /** Row-major `[end − begin, rank]`, the adapter's scale in it. */
  readonly b: Float32Array;
  /** `[end − begin]`; undefined: 1. */
  readonly gain: Float32Array | undefined;
}

/**
 * `W' = gain ⊙ W + B · A`, in place, with the same bits on every machine: B · A in float64 by ascending rank, rounded once
 * to float32; then the product and the sum, each rounded to float32. Only +, × and roundings, which ECMAScript wants
 * exact and unfused (ECMA-262, Number::multiply and Number::add).
 * @param w as `layer` says
 * @throws {QuantError} `quant/shape`, `quant/not-finite`
 * @see Hu et al. 2021, LoRA, equation 3; Liu et al. 2024, DoRA, equation 5 (its norm in gain and B)
 */
export function addLowRank(w: Float32Array, layer: LayerShape, change: LowRankChange): void {
  const { inFeatures, outFeatures, isInOut } = layer;
  const { begin, end, a, b, rank, gain } = change;
  const delta = loraDelta({ a, b, rank, inFeatures, outFeatures: end - begin, scale: 1 });
  for (let o = begin; o < end; o++) {
    const factor = gain ? gain[o - begin] : 1;
    for (let i = 0; i < inFeatures; i++) {
      const at = isInOut ? i * outFeatures + o : o * inFeatures + i;
      w[at] = Math.fround(w[at] * factor) + delta[(o - begin) * inFeatures + i];
    }
  }
}
