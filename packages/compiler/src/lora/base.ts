import type { BaseWeights } from '@flotilla/checkpoint';
import type { Graph } from '@flotilla/onnx';
import { CompilerError } from '../errors.ts';
import { findHomes, type Home } from './homes.ts';
import { LayerEdits } from './layer-edits.ts';
import { type LoraMap, NO_MAP } from './lora-map.ts';
import { type Place, placeParameter } from './parameters.ts';
import { list } from './sites.ts';
import { isTied } from './tokens.ts';

/** What a checkpoint gave to the graph. */
export interface LoadedBase {
  readonly tensors: number;
  /** Those that were in bitsandbytes' 4 bits. */
  readonly fourBit: number;
  readonly warnings: readonly string[];
}

export interface LoadBaseOptions {
  readonly map?: LoraMap | undefined;
  /** The output layer has the embedding's weights, as `tie_word_embeddings` says. */
  readonly isTied?: boolean | undefined;
}

/**
 * Puts a checkpoint's weights in the place of the graph's own: the ONNX file gives the graph alone. 4-bit weights come
 * dequantized, so that an adapter trained beside them is merged into the numbers that it saw.
 * @throws {CompilerError} `compiler/base` where a layer finds no weights and weights of its shape find no layer, or neighbours have some;
 *   `compiler/lora-home`, `compiler/lora-shape`; what checkpoint throws
 */
export async function loadBase(
  graph: Graph,
  weights: BaseWeights,
  { map = NO_MAP, isTied: isTiedBase = false }: LoadBaseOptions = {},
): Promise<LoadedBase> {
  const homes = findHomes(graph);
  const { placed, left } = placeAll(graph, weights, homes, map);
  const filled = new Set([...placed.values()].flatMap(({ site }) => site?.readers.map(({ node }) => node) ?? []));
  const empty = homes.filter(({ node }) => !filled.has(node));
  const embedding = homes.find(({ node }) => node.opType === 'Gather' && filled.has(node));
  const tied = embedding ? empty.filter((home) => isOutputOf(home, embedding, isTiedBase)) : [];
  const own = empty.filter((home) => home.node.opType !== 'Gather' && !tied.includes(home));
  checkShapes(own, left, weights);
  checkNeighbours(
    own,
    homes.filter(({ node }) => filled.has(node)),
    weights,
  );
  const edits = new LayerEdits(graph);
  for (const [name, place] of placed) place.put(edits, await weights.floats(name));
  for (const home of tied) if (embedding) tie(edits, home, embedding);
  edits.write();
  graph.removeDead();
  const formats = [...placed.keys()].map((name) => weights.tensors.get(name)?.format);
  return {
    tensors: placed.size,
    fourBit: formats.filter((format) => format === 'nf4' || format === 'fp4').length,
    warnings: warningsOf(own, left, weights),
  };
}

function placeAll(
  graph: Graph,
  weights: BaseWeights,
  homes: readonly Home[],
  map: LoraMap,
): { readonly placed: ReadonlyMap<string, Place>; readonly left: readonly string[] } {
  const siblings = new Map<string, number>();
  for (const [name, { shape }] of weights.tensors)
    if (name.endsWith('.weight')) siblings.set(name.slice(0, -'.weight'.length), shape[0] ?? 0);
  const search = { graph, homes, map, siblings, where: weights.path, fanInFanOut: false };
  const placed = new Map<string, Place>();
  const left: string[] = [];
  for (const [name, { shape }] of weights.tensors) {
    const place = placeParameter(name, shape, search);
    if (place) placed.set(name, place);
    else left.push(name);
  }
  checkApart(placed, weights.path);
  return { placed, left };
}

/** No two tensors of one kind go to one place. */
function checkApart(placed: ReadonlyMap<string, Place>, where: string): void {
  const taken = new Map<string, string>();
  for (const [name, { node, site }] of placed) {
    const key = `${node} ${name.slice(name.lastIndexOf('.'))} ${site?.begin ?? ''}`;
    const other = taken.get(key);
    if (other !== undefined)
      throw new CompilerError('compiler/base', `${where}: ${other} and ${name} both belong to ${node}`, { where });
    taken.set(key, name);
  }
}

function isOutputOf(home: Home, embedding: Home, isTiedBase: boolean): boolean {
  const fits = home.outFeatures === embedding.inFeatures && home.inFeatures === embedding.outFeatures;
  return fits && home.node.opType !== 'Gather' && (isTiedBase || isTied(home, embedding));
}

function tie(edits: LayerEdits, home: Home, embedding: Home): void {
  const columns = edits.weightsOf({ readers: [embedding] });
  const rows = edits.weightsOf({ readers: [home] });
  const { inFeatures: tokens, outFeatures: width } = embedding;
  for (let token = 0; token < tokens; token++)
    for (let i = 0; i < width; i++) rows[token * width + i] = columns[i * tokens + token] ?? 0;
}

/** A layer without weights and weights without a layer, of one shape, are a name that was not understood. */
function checkShapes(empty: readonly Home[], left: readonly string[], weights: BaseWeights): void {
  for (const home of empty) {
    const { inFeatures, outFeatures, kernel } = home;
    const shapes = [[outFeatures, inFeatures, ...kernel].join(), [inFeatures, outFeatures].join()];
    const candidates = left.filter((name) => shapes.includes(weights.tensors.get(name)?.shape.join() ?? ''));
    if (candidates.length === 0) continue;
    const message = `${weights.path}: no weights for ${list([home])}; of its shape are ${candidates.slice(0, 4).join(', ')}`;
    const hint = 'send them there by a file for --lora-map';
    throw new CompilerError('compiler/base', message, { where: weights.path, hint });
  }
}

/**
 * A graph may hold products that are no parameters (a filter bank), and keeps those; but a checkpoint that fits nowhere, or
 * has weights for one part of a block and not for the other, is not this model's.
 */
function checkNeighbours(empty: readonly Home[], filled: readonly Home[], { path }: BaseWeights): void {
  const fail = (what: string): never => {
    throw new CompilerError('compiler/base', `${path}: ${what}`, { where: path });
  };
  if (filled.length === 0) fail('not one of its tensors belongs to a layer of the graph');
  const blocks = new Set(filled.flatMap(blocksOf));
  const torn = empty.filter((home) => blocksOf(home).some((block) => blocks.has(block)));
  if (torn.length > 0) fail(`no weights for ${list(torn)}, though layers beside them have some`);
}

/** Modules that a layer lies in directly. */
function blocksOf({ paths }: Home): readonly string[] {
  return paths.map((path) => path.slice(0, Math.max(0, path.lastIndexOf('.')))).filter((block) => block !== '');
}

function warningsOf(own: readonly Home[], left: readonly string[], { path, tensors }: BaseWeights): readonly string[] {
  const warnings: string[] = [];
  if (own.length > 0) warnings.push(`${path} has no weights for ${list(own)}: the graph's own stay`);
  const shown = left.slice(0, 4).join(', ') + (left.length > 4 ? ` and ${left.length - 4} more` : '');
  if (left.length > 0) warnings.push(`${left.length} of ${tensors.size} tensors of ${path} have no place: ${shown}`);
  return warnings;
}
