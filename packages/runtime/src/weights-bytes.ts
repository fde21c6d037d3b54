import { stat } from 'node:fs/promises';

/** The model file's bytes. */
export async function weightsBytes(modelPath: string): Promise<number> {
  return (await stat(modelPath)).size;
}
