import type { Tensors } from '@flotilla/runtime';

/** Adds up how far outputs are from fp32's, over samples. */
export class OutputError {
  private readonly outputs = new Map<string, { signal: number; noise: number }>();

  add(reference: Tensors, outputs: Tensors): void {
    for (const [name, expected] of Object.entries(reference)) {
      const found = outputs[name];
      if (expected.dtype !== 'float32' || found?.dtype !== 'float32') continue;
      // Not in the object: there each addition would make a number on the heap.
      let { signal, noise } = this.outputs.get(name) ?? { signal: 0, noise: 0 };
      for (let i = 0; i < expected.data.length; i++) {
        const a = expected.data[i] ?? 0;
        const difference = a - (found.data[i] ?? 0);
        // Masked logits are −∞ in both.
        if (!Number.isFinite(a)) continue;
        signal += a * a;
        noise += difference * difference;
      }
      this.outputs.set(name, { signal, noise });
    }
  }

  /** `10 · log₁₀(Σ fp32² / Σ (fp32 − quantized)²)` of the float output that is worst off; null: all are equal, or none is float. */
  sqnrDb(): number | null {
    const each = [...this.outputs.values()].filter(({ noise }) => noise > 0);
    return each.length === 0 ? null : Math.min(...each.map(({ signal, noise }) => 10 * Math.log10(signal / noise)));
  }
}
