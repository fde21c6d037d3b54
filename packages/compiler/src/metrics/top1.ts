import type { Tensors } from '@flotilla/runtime';
import { CompilerError } from '../errors.ts';
import type { Sample } from '../data/data-set.ts';
import { firstFloats } from './first-output.ts';
import { labelNumbers } from './labels.ts';
import type { TensorMetric } from './metric.ts';

/** Share of rows whose strongest class (last axis of the first float output) is the label. */
export const top1: TensorMetric = {
  kind: 'tensor',
  name: 'top1',
  higherIsBetter: true,
  start() {
    let right = 0;
    let rows = 0;
    return {
      add(outputs: Tensors, sample: Sample) {
        const { data, dims } = firstFloats(outputs);
        const classes = dims.at(-1) ?? 1;
        const labels = labelNumbers(sample);
        if (data.length !== labels.length * classes) {
          const message = `${sample.name}: ${labels.length} labels for ${data.length / classes} rows of classes`;
          throw new CompilerError('compiler/data', message, { where: sample.name });
        }
        for (const [row, label] of labels.entries()) {
          if (argMax(data, row * classes, classes) === label) right += 1;
        }
        rows += labels.length;
      },
      value: () => right / rows,
    };
  },
};

/** Index of the largest value, from `start`; the first of equals. */
export function argMax(data: Float32Array, start: number, count: number): number {
  let best = start;
  for (let i = start + 1; i < start + count; i++) if ((data[i] ?? 0) > (data[best] ?? 0)) best = i;
  return best - start;
}
