import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type Tensors, writeNpz } from '@flotilla/runtime';

/** One `.npz` a sample, its arrays named after the model's inputs: what `--data` and the peers read. */
export async function writeSamples(dir: string, samples: readonly Tensors[]): Promise<string> {
  await mkdir(dir, { recursive: true });
  for (const [i, sample] of samples.entries()) await writeNpz(join(dir, `${String(i).padStart(5, '0')}.npz`), sample);
  return dir;
}
