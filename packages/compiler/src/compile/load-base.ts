import { openBaseWeights } from '@flotilla/checkpoint';
import { type LoadedBase, loadBase } from '../lora/base.ts';
import { readLoraMap } from '../lora/lora-map.ts';
import type { CompileOptions } from './options.ts';
import type { Source } from './source.ts';

/**
 * Puts the weights of `options.base` into the graph; undefined where there is none.
 * @throws {CompilerError} `compiler/base` …, and what checkpoint throws
 */
export async function loadBaseWeights(
  { model, folder }: Pick<Source, 'model' | 'folder'>,
  { base, loraMap }: Pick<CompileOptions, 'base' | 'loraMap'>,
): Promise<LoadedBase | undefined> {
  if (base === undefined) return undefined;
  const weights = await openBaseWeights(base);
  try {
    const map = loraMap === undefined ? undefined : await readLoraMap(loraMap);
    return await loadBase(model.graph, weights, { map, isTied: folder.config?.['tie_word_embeddings'] === true });
  } finally {
    await weights.close();
  }
}
