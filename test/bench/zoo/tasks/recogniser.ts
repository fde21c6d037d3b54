import { join } from 'node:path';
import type { Tensors } from '@flotilla/runtime';
import { decodeCtc, readKeys } from '../../../labels/ctc.ts';
import { type LabelLine, labelLines } from '../../../labels/labels.ts';
import { lineHeight } from '../../../labels/render.ts';
import { eachOutput, floats, type Task, type ZooSizes } from '../task.ts';
import { writeSamples } from '../write-samples.ts';

/** Nobody looked at lines of this seed when recipes were made. */
export const SEED = 20_261_125;

const feed = ({ width, data }: LabelLine): Tensors => ({ x: floats([1, 3, lineHeight, width], data) });

/** Reads rendered label lines: exact texts. */
export function recogniser(model: string, path: string, sizes: ZooSizes): Task {
  const keys = readKeys();
  return {
    model,
    path,
    onnxPath: path,
    metric: 'lines read exactly',
    calibrate: (dir) => {
      const lines = labelLines({ split: 'calibrate', count: sizes.calibrateLines, seed: SEED });
      return writeSamples(join(dir, 'calibrate'), lines.map(feed));
    },
    async judge(candidate) {
      const lines = labelLines({ split: 'judge', count: sizes.lines, seed: SEED });
      const answers = await eachOutput(candidate, lines.map(feed), (scores) => decodeCtc(scores, keys));
      return { ...answers, truth: lines.map(({ text }) => text) };
    },
    feeds: () => labelLines({ split: 'judge', count: 4, seed: SEED }).map(feed),
  };
}
