import { join } from 'node:path';
import { evaluate } from '@flotilla/compiler';
import type { Tensors } from '@flotilla/runtime';
import { labelTexts } from '../../../labels/labels.ts';
import { between, hashText, type Random, seededRandom, wholeBetween } from '../../../labels/random.ts';
import { lineHeight, renderLine } from '../../../labels/render.ts';
import type { Split } from '../../../labels/texts.ts';
import { firstFloats, floats, type Task, type ZooSizes } from '../task.ts';
import { writeSamples } from '../write-samples.ts';
import { SEED } from './recogniser.ts';

const [HEIGHT, WIDTH] = [480, 640];
/** PaddleOCR's `NormalizeImage` of the detector, by plane as the model gets them. */
const MEAN = [0.485, 0.456, 0.406];
const DEVIATION = [0.229, 0.224, 0.225];

/** Finds the lines on rendered pages: F1 of its boxes against those of fp32. */
export function detector(model: string, path: string, sizes: ZooSizes, dir: string): Task {
  return {
    model,
    path,
    onnxPath: path,
    metric: "F1 against fp32's boxes",
    calibrate: (to) => writeSamples(join(to, 'calibrate'), pages('calibrate', sizes.calibratePages)),
    async judge({ path: candidate, session }) {
      const samples = pages('judge', sizes.pages);
      const data = await writeSamples(join(dir, `${model}-pages`), samples);
      const { value } = await evaluate(candidate, { data, metric: 'box-f1', against: path });
      const outputs: Float32Array[] = [];
      for (const page of samples.slice(0, 4)) outputs.push(firstFloats(await session.run(page)));
      return { marks: samples.map(() => ''), outputs, value };
    },
    feeds: () => pages('judge', 1),
  };
}

function pages(split: Split, count: number): readonly Tensors[] {
  const texts = labelTexts({ split, count: 9 * count, seed: SEED });
  return Array.from({ length: count }, (_, i) => {
    const random = seededRandom(hashText(`page ${split} ${SEED} ${i}`));
    return { x: floats([1, 3, HEIGHT, WIDTH], page(texts.slice(9 * i, 9 * i + 9), random)) };
  });
}

/** Up to nine labels on a sheet of its own light and noise, one or two side by side. */
function page(texts: readonly string[], random: Random): Float32Array {
  const [area, level, noise] = [HEIGHT * WIDTH, between(random, 40, 240) / 255, between(random, 0.01, 0.06)];
  const sheet = Float32Array.from({ length: 3 * area }, () => level + noise * (random() - 0.5));
  let [x, y] = [wholeBetween(random, 4, 60), wholeBetween(random, 4, 40)];
  for (const text of texts) {
    const { width, data } = renderLine(text, random);
    if (x + width > WIDTH) [x, y] = [wholeBetween(random, 4, 60), y + lineHeight + wholeBetween(random, 6, 40)];
    if (x + width > WIDTH || y + lineHeight > HEIGHT) continue;
    for (let plane = 0; plane < 3; plane++)
      for (let row = 0; row < lineHeight; row++)
        for (let column = 0; column < width; column++)
          sheet[plane * area + (y + row) * WIDTH + x + column] =
            ((data[(plane * lineHeight + row) * width + column] ?? 0) + 1) / 2;
    x += width + wholeBetween(random, 16, 80);
  }
  return sheet.map((value, i) => {
    const plane = Math.floor(i / area);
    return (value - (MEAN[plane] ?? 0)) / (DEVIATION[plane] ?? 1);
  });
}
