import { join } from 'node:path';
import type { Tensors } from '@flotilla/runtime';
import { type LabelLine, labelLines } from '../../../labels/labels.ts';
import { lineHeight } from '../../../labels/render.ts';
import type { Split } from '../../../labels/texts.ts';
import { eachOutput, floats, type Task, type ZooSizes } from '../task.ts';
import { writeSamples } from '../write-samples.ts';
import { SEED } from './recogniser.ts';

const WIDTH = 192;

/** Upright or upside down: rendered label lines, every second one turned by 180°. */
export function classifier(model: string, path: string, sizes: ZooSizes): Task {
  return {
    model,
    path,
    onnxPath: path,
    metric: 'angles told',
    calibrate: (dir) => writeSamples(join(dir, 'calibrate'), pictures('calibrate', sizes.calibrateLines)),
    async judge(candidate) {
      const samples = pictures('judge', sizes.angles);
      const answers = await eachOutput(candidate, samples, ([upright = 0, turned = 0]) =>
        turned > upright ? 'turned' : 'upright',
      );
      return { ...answers, truth: samples.map((_, i) => (i % 2 === 0 ? 'upright' : 'turned')) };
    },
    feeds: () => pictures('judge', 4),
  };
}

function pictures(split: Split, count: number): readonly Tensors[] {
  // Other lines than the recogniser's.
  return labelLines({ split, count, seed: SEED + 1 }).map((line, i) => {
    const picture = fitted(line);
    return { x: floats([1, 3, lineHeight, WIDTH], i % 2 === 0 ? picture : turned(picture)) };
  });
}

/** PaddleOCR's `resize_norm_img` of the classifier: at most 192 wide, zeros behind. */
function fitted({ width, data }: LabelLine): Float32Array {
  const out = new Float32Array(3 * lineHeight * WIDTH);
  const used = Math.min(width, WIDTH);
  for (let row = 0; row < 3 * lineHeight; row++)
    for (let column = 0; column < used; column++) {
      const at = Math.max(0, ((column + 0.5) * width) / used - 0.5);
      const [left, right] = [Math.floor(at), Math.min(width - 1, Math.floor(at) + 1)];
      const [a, b] = [data[row * width + left] ?? 0, data[row * width + right] ?? 0];
      out[row * WIDTH + column] = a + (at - left) * (b - a);
    }
  return out;
}

/** Each plane by 180°. */
function turned(picture: Float32Array): Float32Array {
  const area = lineHeight * WIDTH;
  return picture.map((_, i) => {
    const plane = Math.floor(i / area) * area;
    return picture[plane + area - 1 - (i - plane)] ?? 0;
  });
}
