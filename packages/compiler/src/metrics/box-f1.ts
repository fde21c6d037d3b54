import type { TensorValue } from '@flotilla/runtime';
import { CompilerError } from '../errors.ts';
import type { Sample } from '../data/data-set.ts';
import { type Box, boxesOf, countMatches } from './boxes.ts';
import { firstFloats } from './first-output.ts';
import { isTensor } from './labels.ts';
import type { TensorMetric } from './metric.ts';

/** Where a text detector's map says "text" (PaddleOCR's `det_db_thresh`). */
const THRESHOLD = 0.3;

/** How sure the map must be of a box on average, for it to be one (`det_db_box_thresh`). */
const SURE = 0.6;

/**
 * F1 of boxes: `2 · found right / (boxes found + boxes there)`, over all samples. Boxes found are the bounding boxes of the
 * connected parts of the first float output `[1, 1, H, W]` (or `[1, H, W]`) above 0.3 whose mean is at least 0.6. Boxes there are the label's
 * (`[N, 4]` of x0, y0, x1, y1 in pixels of the output, ends excluded), or what fp32 finds where a sample has no label. Two
 * are the same from an intersection over union of 0.5; each box counts once.
 */
export const boxF1: TensorMetric = {
  kind: 'tensor',
  name: 'box-f1',
  higherIsBetter: true,
  score(outputs, sample, reference) {
    const found = boxesOf(mapOf(firstFloats(outputs), sample), THRESHOLD, SURE);
    const wanted = labelBoxes(sample) ?? boxesOf(mapOf(firstFloats(reference), sample), THRESHOLD, SURE);
    return { sum: 2 * countMatches(found, wanted), weight: found.length + wanted.length };
  },
};

function mapOf({ data, dims }: TensorValue & { readonly dtype: 'float32' }, { name }: Sample) {
  const [height = 0, width = 0] = dims.slice(-2);
  if (dims.length >= 2 && height * width === data.length) return { data, height, width };
  const message = `box-f1 reads one map [1, 1, H, W] a sample; the output of ${name} is [${dims.join(', ')}]`;
  throw new CompilerError('compiler/metric', message, { where: name });
}

function labelBoxes({ label, name }: Sample): readonly Box[] | undefined {
  if (label === undefined) return undefined;
  const rows: unknown = isTensor(label) && label.dtype !== 'string' ? rowsOf(label.data) : label;
  if (Array.isArray(rows) && rows.every(isBox)) return rows;
  throw new CompilerError('compiler/data', `${name} has no label that is boxes, [N, 4]`, { where: name });
}

function rowsOf(data: ArrayLike<number | bigint>): number[][] {
  const values = Array.from(data, Number);
  return Array.from({ length: Math.ceil(values.length / 4) }, (_, row) => values.slice(4 * row, 4 * row + 4));
}

function isBox(row: unknown): row is Box {
  return Array.isArray(row) && row.length === 4 && row.every((value) => typeof value === 'number');
}
