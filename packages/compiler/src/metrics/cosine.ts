import type { TensorMetric } from './metric.ts';

/** Mean over samples of the cosine between all float outputs and fp32's; 1 is equal in direction. Needs no labels. */
export const cosine: TensorMetric = {
  kind: 'tensor',
  name: 'cosine',
  higherIsBetter: true,
  score(outputs, _sample, reference) {
    let dot = 0;
    let own = 0;
    let other = 0;
    for (const [name, expected] of Object.entries(reference)) {
      const output = outputs[name];
      if (expected.dtype !== 'float32' || output?.dtype !== 'float32') continue;
      for (let i = 0; i < expected.data.length; i++) {
        const a = output.data[i] ?? 0;
        const b = expected.data[i] ?? 0;
        dot += a * b;
        own += a * a;
        other += b * b;
      }
    }
    return { sum: own === 0 && other === 0 ? 1 : dot / Math.sqrt(own * other || 1), weight: 1 };
  },
};
