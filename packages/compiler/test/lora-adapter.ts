import type { LoraAdapter, LoraModule } from '@flotilla/checkpoint';

/** An adapter of rank 1 and scale 1 with these modules, as if it had been read. */
export function adapter(modules: { readonly [path: string]: LoraModule }): LoraAdapter {
  const config: LoraAdapter['config'] = {
    rank: 1,
    alpha: 1,
    rankPattern: new Map(),
    alphaPattern: new Map(),
    baseModel: undefined,
    rsLora: false,
    dora: false,
    fanInFanOut: false,
    loraBias: false,
    bias: 'none',
    targets: { target: undefined, exclude: [], layers: [], layersPattern: [] },
    modulesToSave: [],
    tokenIndices: new Map(),
  };
  const byPath = new Map(Object.entries(modules));
  return { dir: 'an-adapter', config, modules: byPath, parameters: new Map(), tokens: new Map() };
}
