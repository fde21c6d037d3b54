import { readFile } from 'node:fs/promises';
import { CompilerError } from '../errors.ts';
import { firstFloats } from './first-output.ts';
import { labelText } from './labels.ts';
import type { TensorMetric } from './metric.ts';
import { argMax } from './top1.ts';

/**
 * Share of samples whose text is read exactly, by greedy CTC decoding of the first float output `[1, steps, classes]`.
 * @param keys one character a line; class 0 is the blank, and a class past the last line is the space
 */
export function ctcText(keys: readonly string[]): TensorMetric {
  return {
    kind: 'tensor',
    name: 'ctc-text',
    higherIsBetter: true,
    score(outputs, sample) {
      const { data, dims } = firstFloats(outputs);
      return { sum: Number(decodeCtc(data, dims.at(-1) ?? 1, keys) === labelText(sample)), weight: 1 };
    },
  };
}

/**
 * The strongest class of each step, repeats and blanks dropped.
 * @param scores row-major `[steps, classes]`
 * @throws {CompilerError} `compiler/metric` if the keys do not fit the classes
 */
export function decodeCtc(scores: Float32Array, classes: number, keys: readonly string[]): string {
  if (classes !== keys.length + 1 && classes !== keys.length + 2) {
    const message = `${keys.length} keys do not name ${classes} classes; blank and space come on top`;
    throw new CompilerError('compiler/metric', message);
  }
  let text = '';
  let before = 0;
  for (let row = 0; row + classes <= scores.length; row += classes) {
    const best = argMax(scores, row, classes);
    if (best !== before && best !== 0) text += keys[best - 1] ?? ' ';
    before = best;
  }
  return text;
}

/** Reads a keys file: one character a line, in the order of the classes. */
export async function readKeys(path: string): Promise<readonly string[]> {
  const text = await readFile(path, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    throw new CompilerError('compiler/data', `cannot read ${path}: ${cause.code ?? cause.message}`, {
      where: path,
      cause,
    });
  });
  return parseKeys(text);
}

export function parseKeys(text: string): readonly string[] {
  return text.replace(/\n$/, '').split('\n');
}
