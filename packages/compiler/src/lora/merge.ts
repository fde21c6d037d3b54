import type { LoraAdapter } from '@flotilla/checkpoint';
import type { Graph } from '@flotilla/onnx';
import { loraDelta, QuantError, scaleToMagnitude } from '@flotilla/quant';
import { CompilerError } from '../errors.ts';
import { type Combination, combineModule, type Weighted } from './combine.ts';
import { findHomes, type Home } from './homes.ts';
import { LayerEdits } from './layer-edits.ts';
import { type LoraMap, NO_MAP } from './lora-map.ts';
import { placeParameter } from './parameters.ts';
import { findSite, homeError, type Search, type Site } from './sites.ts';
import { planTokens, type TokenPlan } from './tokens.ts';

/** Where one module of the adapters went. */
export interface MergedModule {
  readonly module: string;
  readonly node: string;
}

export interface WeightedAdapter {
  readonly adapter: LoraAdapter;
  /** Multiplies the adapter's own scale. Default 1. */
  readonly weight?: number | undefined;
}

export interface MergeOptions {
  readonly map?: LoraMap | undefined;
  /** Default `cat`. */
  readonly combination?: Combination | undefined;
}

interface Placed {
  readonly site: Site;
  readonly parts: readonly [Weighted, ...Weighted[]];
}

/**
 * Merges adapters into the weights that their modules were trained for, before anything is quantized. Exported weights
 * are anonymous and transposed (`onnx::MatMul_903`): a module's home is the one layer that the map names, or whose node or
 * initializer has the module's path, and whose shape fits. Nothing is merged unless everything has exactly one home.
 * @throws {CompilerError} `compiler/lora-home` naming the candidates; `compiler/lora-shape`, `compiler/lora-combine`,
 *   `compiler/weights`
 */
export function mergeLora(
  graph: Graph,
  adapters: readonly WeightedAdapter[],
  { map = NO_MAP, combination = { method: 'cat' } }: MergeOptions = {},
): readonly MergedModule[] {
  const homes = findHomes(graph);
  const changes = adapters.flatMap(({ adapter }) => planWhole(graph, adapter, homes, map));
  checkOneWhole(adapters);
  const placed = placeModules(adapters, homes, map);
  const edits = new LayerEdits(graph);
  const combined = [...placed].map(([module, { site, parts }]) => {
    const isOne = combination.method === 'cat' || adapters.length === 1;
    return [
      module,
      site,
      isOne
        ? parts
        : [combinedPart(module, parts, { ...combination, rank: combination.rank ?? largestRank(adapters) })],
    ] as const;
  });
  for (const [, change] of changes) change.carryOut(edits);
  for (const [module, site, parts] of combined) for (const part of parts) mergeInto(edits, site, module, part);
  edits.write();
  return [
    ...changes.map(([module, { node }]) => ({ module, node })),
    ...combined.map(([module, { readers }]) => ({ module, node: readers[0].node.name })),
  ];
}

/** Two adapters may bring the same parameter (PEFT saves embeddings along), but not with different values. */
function checkOneWhole(adapters: readonly WeightedAdapter[]): void {
  const held = new Map<string, Float32Array>();
  for (const { adapter } of adapters) {
    const whole = [...adapter.parameters].map(([name, { values }]) => [name, values] as const);
    const rows = [...adapter.tokens].map(([module, tokens]) => [`rows of ${module}`, tokens.rows] as const);
    for (const [name, values] of [...whole, ...rows]) {
      const other = held.get(name) ?? values;
      held.set(name, values);
      if (other.length === values.length && other.every((value, i) => value === values[i])) continue;
      throw new CompilerError('compiler/lora-combine', `two adapters replace ${name} by different values`, {
        where: adapter.dir,
      });
    }
  }
}

/** Parameters and rows that take the place of the base's. */
function planWhole(
  graph: Graph,
  adapter: LoraAdapter,
  homes: readonly Home[],
  map: LoraMap,
): readonly (readonly [string, TokenPlan])[] {
  const { dir, config, parameters, tokens } = adapter;
  const siblings = new Map([...adapter.modules].map(([module, { outFeatures }]) => [module, outFeatures]));
  const search = { graph, homes, map, siblings, where: dir, fanInFanOut: config.fanInFanOut };
  const whole = [...parameters].map(([name, { shape, values }]) => {
    const place = placeParameter(name, shape, search);
    if (!place) throw homeError(dir, `${name} [${shape.join(', ')}] has no home in the graph: nothing has its name`);
    return [name, { node: place.node, carryOut: (edits: LayerEdits) => place.put(edits, values) }] as const;
  });
  return [...whole, ...[...tokens].map(([module, rows]) => [module, planTokens(module, rows, search)] as const)];
}

/** Finds every module's home, and by module what each adapter has for it. */
export function placeModules(
  adapters: readonly WeightedAdapter[],
  homes: readonly Home[],
  map: LoraMap,
): ReadonlyMap<string, Placed> {
  const placed = new Map<string, Placed>();
  for (const { adapter, weight = 1 } of adapters) {
    const siblings = new Map([...adapter.modules].map(([module, { outFeatures }]) => [module, outFeatures]));
    const search: Search = { homes, map, siblings, where: adapter.dir };
    for (const [module, factors] of adapter.modules) {
      const part = { factors, weight, where: adapter.dir };
      const site = findSite({ module, ...factors }, search);
      placed.set(module, { site, parts: [...(placed.get(module)?.parts ?? []), part] as unknown as Placed['parts'] });
    }
  }
  checkApart(placed);
  return placed;
}

/** No output of a layer belongs to two modules. */
function checkApart(placed: ReadonlyMap<string, Placed>): void {
  const taken: (readonly [module: string, site: Site])[] = [];
  for (const [module, { site, parts }] of placed) {
    const [home] = site.readers;
    const other = taken.find(
      ([, { readers, begin, end }]) => readers[0].node === home.node && begin < site.end && site.begin < end,
    );
    if (other) throw homeError(parts[0].where, `${module} and ${other[0]} both belong to ${home.node.name}`);
    taken.push([module, site]);
  }
}

/** @see PEFT `_check_add_weighted_adapter` */
function largestRank(adapters: readonly WeightedAdapter[]): number {
  return Math.max(...adapters.flatMap(({ adapter: { config } }) => [config.rank, ...config.rankPattern.values()]));
}

function combinedPart(module: string, parts: Placed['parts'], combination: Combination): Weighted {
  return { factors: combineModule(module, parts, combination), weight: 1, where: parts[0].where };
}

function mergeInto(edits: LayerEdits, site: Site, module: string, { factors, weight, where }: Weighted): void {
  const scale = factors.scale * weight;
  const size = factors.a.length / factors.rank;
  const weights = edits.weightsOf(site).subarray(site.begin * size, site.end * size);
  const delta = inWords(module, where, () => loraDelta({ ...factors, inFeatures: size, scale }));
  for (let i = 0; i < weights.length; i++) weights[i] = (weights[i] ?? 0) + (delta[i] ?? 0);
  const { magnitude, bias } = factors;
  if (magnitude) inWords(module, where, () => scaleToMagnitude(weights, magnitude));
  if (!bias) return;
  for (const target of edits.biasesOf(site.readers))
    for (const [i, value] of bias.entries()) target[site.begin + i] = (target[site.begin + i] ?? 0) + value * scale;
}

function inWords<Result>(module: string, where: string, compute: () => Result): Result {
  try {
    return compute();
  } catch (cause) {
    if (!(cause instanceof QuantError)) throw cause;
    throw new CompilerError('compiler/weights', `${module}: ${cause.message}`, { where, cause });
  }
}
