import { CompilerError } from '../errors.ts';
import { fusedSite } from './fused.ts';
import type { Home } from './homes.ts';
import type { LoraMap } from './lora-map.ts';
import { isOtherCall, lastPart, likeness } from './paths.ts';

/** A module's weights in the graph: all of a layer's outputs, or a run of them where several modules were fused. */
export interface Site {
  /** The nodes that read the one weight and belong to the module. */
  readonly readers: readonly [Home, ...Home[]];
  /** First output of the run, and the one after its last. */
  readonly begin: number;
  readonly end: number;
}

/** What a home must have to be a module's. */
export interface Wanted {
  readonly module: string;
  readonly outFeatures: number;
  readonly inFeatures: number;
  readonly kernel: readonly number[];
}

export interface Search {
  readonly homes: readonly Home[];
  readonly map: LoraMap;
  /** How many outputs other modules of the adapter have: what a fused weight is cut by. */
  readonly siblings: ReadonlyMap<string, number>;
  /** Adapter or checkpoint that asks. */
  readonly where: string;
}

/**
 * The one home of a module: by the map, else by names and shape, else as a part of fused weights, else by shape alone
 * where only one layer has it and no name.
 * @throws {CompilerError} `compiler/lora-home` naming the candidates; `compiler/lora-shape`
 */
export function findSite(wanted: Wanted, search: Search): Site {
  const { homes, where } = search;
  const mapped = mappedSite(wanted, search);
  if (mapped) return mapped;
  const named = nearest(wanted.module, homes);
  const fitting = named.filter((home) => fits(home, wanted));
  const [home, ...others] = fitting;
  if (home && others.every((other) => other.value === home.value)) return whole(withOtherCalls(home, others, homes));
  if (home) throw homeError(where, `${label(wanted)} fits ${list(fitting)}`);
  const fused = fusedSite(wanted, search);
  if (fused) return fused;
  if (named.length > 0) {
    const message = `${label(wanted)} is in the graph ${list(named)}: an adapter for another base model?`;
    throw new CompilerError('compiler/lora-shape', message, { where });
  }
  return siteByShape(wanted, search);
}

function mappedSite(wanted: Wanted, search: Search): Site | undefined {
  const target = search.map(wanted.module);
  const readers = mappedHomes(wanted.module, search);
  if (!target || !readers) return undefined;
  const [home] = readers;
  const { begin, end } = target.range ?? { begin: 0, end: home.outFeatures };
  if (end <= home.outFeatures && fits({ ...home, outFeatures: end - begin }, wanted)) return { readers, begin, end };
  const message = `--lora-map sends ${label(wanted)} to outputs ${begin} to ${end} of ${list([home])}`;
  throw new CompilerError('compiler/lora-shape', message, { where: search.where });
}

/** The readers of the one weight that the map sends a module to; undefined where it says nothing. */
export function mappedHomes(module: string, { homes, map, where }: Search): readonly [Home, ...Home[]] | undefined {
  const target = map(module);
  if (!target) return undefined;
  const found = homes.filter(({ node, value, tensor }) => [node.name, value, tensor.name].includes(target.name));
  const [home, ...others] = found;
  if (!home) throw homeError(where, `--lora-map sends ${module} to ${target.name}, which is no layer of the graph`);
  if (others.some((other) => other.value !== home.value))
    throw homeError(where, `--lora-map sends ${module} to ${target.name}, which is ${list(found)}`);
  return [home, ...others];
}

/** The homes whose names are most like the module's; the surer names are asked first. */
export function nearest(module: string, homes: readonly Home[]): readonly Home[] {
  for (const sureness of [0, 1, 2]) {
    const ranked = homes.map(({ paths }) => likeness(paths[sureness] ?? '', module));
    const best = Math.max(0, ...ranked);
    if (best > 0) return homes.filter((_, i) => ranked[i] === best);
  }
  return [];
}

/** A module that is called twice has two nodes with one weight; a tied embedding has too, and keeps what it has. */
function withOtherCalls(home: Home, others: readonly Home[], homes: readonly Home[]): [Home, ...Home[]] {
  const calls = homes.filter(
    (other) =>
      other !== home &&
      !others.includes(other) &&
      other.value === home.value &&
      other.paths.some((path) => home.paths.some((own) => isOtherCall(path, own))),
  );
  return [home, ...others, ...calls];
}

/** Names that say nothing leave the shape: enough where one layer alone has it. */
function siteByShape(wanted: Wanted, { homes, where }: Search): Site {
  const nameless = homes.filter((home) => home.paths.length === 0 && fits(home, wanted));
  const [home, ...others] = nameless;
  if (home && others.every((other) => other.value === home.value)) return whole([home, ...others]);
  const namesakes = homes.filter((other) => other.paths.some((path) => lastPart(path) === lastPart(wanted.module)));
  const candidates = namesakes.length > 0 ? namesakes : homes.filter((other) => fits(other, wanted));
  throw homeError(where, `${label(wanted)} has no home in the graph; nearest: ${list(candidates) || 'none'}`);
}

function whole(readers: readonly [Home, ...Home[]]): Site {
  return { readers, begin: 0, end: readers[0].outFeatures };
}

/** A 1×1 convolution is a linear layer. */
function fits(home: Home, { outFeatures, inFeatures, kernel }: Omit<Wanted, 'module'>): boolean {
  const [own, other] = [home.kernel, kernel].map((sides) => sides.filter((side) => side !== 1).join('×'));
  return home.outFeatures === outFeatures && home.inFeatures === inFeatures && home.groups === 1 && own === other;
}

function label({ module, outFeatures, inFeatures, kernel }: Wanted): string {
  return `${module} [${[outFeatures, inFeatures, ...kernel].join(', ')}]`;
}

export function list(homes: readonly Home[]): string {
  const shown = homes.slice(0, 4).map(({ node, outFeatures, inFeatures, kernel, groups }) => {
    const shape = `[${[outFeatures, inFeatures, ...kernel].join(', ')}]`;
    return `${node.name || node.outputs[0]} ${shape}${groups === 1 ? '' : ` in ${groups} groups`}`;
  });
  return shown.join(', ') + (homes.length > 4 ? ` and ${homes.length - 4} more` : '');
}

export function homeError(where: string, message: string): CompilerError {
  const hint = 'name its node in a file for --lora-map';
  return new CompilerError('compiler/lora-home', message, { where, hint });
}
