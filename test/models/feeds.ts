import { decoderFeeds, type SessionInput, type Tensors } from '@flotilla/runtime';
import { labelLines } from '../labels/labels.ts';
import { lineHeight } from '../labels/render.ts';
import type { Build } from './builds.ts';

/** What a model's speed is measured on: evaluation lines, or one decoding step with 64 tokens behind it. */
export function speedFeeds(model: Build['model'], inputs: readonly SessionInput[]): readonly Tensors[] {
  if (model === 'commands') return [decoderFeeds(inputs, [1], 64)];
  return labelLines({ split: 'judge', count: 8 }).map(({ width, data }) => ({
    x: { dtype: 'float32', dims: [1, 3, lineHeight, width], data },
  }));
}
