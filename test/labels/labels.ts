import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { encodeNpz } from '@flotilla/runtime';
import { hashText, seededRandom } from './random.ts';
import { lineHeight, renderLine } from './render.ts';
import { labelText, type Split, splitOf } from './texts.ts';

export interface LabelLine {
  readonly text: string;
  readonly width: number;
  /** float32 `[1, 3, 48, width]`, BGR, value / 127.5 − 1. */
  readonly data: Float32Array;
}

export interface LabelOptions {
  readonly split: Split;
  readonly count: number;
  /** Default 1. Other seeds give other texts of the same split and other wear. */
  readonly seed?: number | undefined;
}

/** Rendered label lines, all texts distinct; the same options give the same bytes. */
export function labelLines(options: LabelOptions): LabelLine[] {
  return labelTexts(options).map((text) => {
    const { width, data } = renderLine(text, seededRandom(hashText(`${options.seed ?? 1} ${text}`)));
    return { text, width, data };
  });
}

/** The texts alone, in the order of `labelLines`. */
export function labelTexts({ split, count, seed = 1 }: LabelOptions): string[] {
  const random = seededRandom(hashText(`${split} ${seed}`));
  const texts = new Set<string>();
  while (texts.size < count) {
    const text = labelText(random);
    if (splitOf(text) === split) texts.add(text);
  }
  return [...texts];
}

/** Writes one `.npz` a line into `dir`: `x` as the model wants it, `label` the text's UTF-8 bytes. */
export async function writeLabelSet(dir: string, options: LabelOptions): Promise<void> {
  await mkdir(dir, { recursive: true });
  for (const [index, line] of labelLines(options).entries()) {
    const label = new TextEncoder().encode(line.text);
    const bytes = encodeNpz({
      x: { dtype: 'float32', dims: [1, 3, lineHeight, line.width], data: line.data },
      label: { dtype: 'uint8', dims: [label.length], data: label },
    });
    await writeFile(join(dir, `${String(index).padStart(5, '0')}.npz`), bytes);
  }
}
