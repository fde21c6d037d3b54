import { openAdapter } from '@flotilla/checkpoint';
import { baseWarning, checkBaseModel } from '../lora/base-model.ts';
import { readLoraMap } from '../lora/lora-map.ts';
import { type MergedModule, mergeLora, type WeightedAdapter } from '../lora/merge.ts';
import type { CompileOptions } from './options.ts';
import type { Source } from './source.ts';

/**
 * Merges the adapters that the options name; the modules that were merged, none without adapters.
 * @throws {CompilerError} `compiler/lora-…`, and what checkpoint throws
 */
export async function mergeAdapters(
  { model, folder }: Pick<Source, 'model' | 'folder'>,
  { lora = [], loraMode, loraCombine, loraMap, loraAnyBase = false }: CompileOptions,
): Promise<readonly MergedModule[]> {
  if ((loraMode ?? 'merge') !== 'merge') return [];
  const adapters: WeightedAdapter[] = [];
  for (const { dir, weight } of lora) {
    const adapter = await openAdapter(dir);
    if (!loraAnyBase) checkBaseModel(adapter, folder);
    adapters.push({ adapter, weight });
  }
  if (adapters.length === 0) return [];
  const map = loraMap === undefined ? undefined : await readLoraMap(loraMap);
  const merged = mergeLora(model.graph, adapters, { map, combination: loraCombine });
  model.graph.removeDead();
  return merged;
}

/** Of adapters for a base that cannot be told to be this one. */
export async function baseWarnings(
  { folder }: Pick<Source, 'folder'>,
  { lora = [], loraAnyBase = false }: CompileOptions,
): Promise<readonly string[]> {
  if (loraAnyBase) return [];
  const adapters = await Promise.all(lora.map(({ dir }) => openAdapter(dir)));
  return adapters.flatMap((adapter) => baseWarning(adapter, folder) ?? []);
}
