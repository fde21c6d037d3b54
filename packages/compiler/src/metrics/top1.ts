import { CompilerError } from '../errors.ts';
import { firstFloats } from './first-output.ts';
import { labelNumbers } from './labels.ts';
import type { TensorMetric } from './metric.ts';

/** Share of rows whose strongest class (last axis of the first float output) is the label. */
export const top1: TensorMetric = {
  kind: 'tensor',
  name: 'top1',
  higherIsBetter: true,
  score(outputs, sample) {
    const { data, dims } = firstFloats(outputs);
    const classes = dims.at(-1) ?? 1;
    const labels = labelNumbers(sample);
    if (data.length !== labels.length * classes) {
      const message = `${sample.name}: ${labels.length} labels for ${data.length / classes} rows of classes`;
      throw new CompilerError('compiler/data', message, { where: sample.name });
    }
    const right = labels.filter((label, row) => argMax(data, row * classes, classes) === label).length;
    return { sum: right, weight: labels.length };
  },
};

/** Index of the largest value, from `start`; the first of equals. */
export function argMax(data: Float32Array, start: number, count: number): number {
  let best = start;
  for (let i = start + 1; i < start + count; i++) if ((data[i] ?? 0) > (data[best] ?? 0)) best = i;
  return best - start;
}
