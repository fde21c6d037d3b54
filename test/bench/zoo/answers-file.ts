import { readFile, writeFile } from 'node:fs/promises';
import { decodeNpz, writeNpz } from '@flotilla/runtime';
import { type Answers, floats } from './task.ts';

/** Keeps fp32's answers: it is asked once, not beside every recipe. */
export async function writeAnswers(path: string, { outputs, ...answers }: Answers): Promise<void> {
  await writeNpz(`${path}.npz`, Object.fromEntries(outputs.map((data, i) => [`o${i}`, floats([data.length], data)])));
  await writeFile(`${path}.json`, JSON.stringify(answers));
}

export async function readAnswers(path: string): Promise<Answers> {
  const answers = JSON.parse(await readFile(`${path}.json`, 'utf8')) as Omit<Answers, 'outputs'>;
  const arrays = decodeNpz(await readFile(`${path}.npz`));
  const outputs = Array.from({ length: Object.keys(arrays).length }, (_, i) => arrays[`o${i}`]?.data as Float32Array);
  return { ...answers, outputs };
}
