import type { Graph, Node, Tensor } from '@flotilla/onnx';
import { CompilerError } from '../errors.ts';
import { fusedSite } from './fused.ts';
import type { Home } from './homes.ts';
import { type LayerEdits, tensorOf, transpose } from './layer-edits.ts';
import { likeness, pathOfNode } from './paths.ts';
import { homeError, list, mappedHomes, nearest, type Search, type Site, type Wanted } from './sites.ts';

/** Where a parameter goes; it is put there once everything has a place. */
export interface Place {
  /** The node that it changes. */
  readonly node: string;
  /** The layer that has its weights from here; undefined for biases, norms and the like. */
  readonly site: Site | undefined;
  put(edits: LayerEdits, values: Float32Array): void;
}

export interface ParameterSearch extends Search {
  readonly graph: Graph;
  /** Square weights of layers whose names say nothing are `[in, out]`. */
  readonly fanInFanOut: boolean;
}

/**
 * Where a whole parameter goes: the layer of its module, else the nodes that read a constant of its name; undefined where
 * the graph has neither.
 * @throws {CompilerError} `compiler/lora-home` naming the candidates; `compiler/lora-shape`
 */
export function placeParameter(name: string, shape: readonly number[], search: ParameterSearch): Place | undefined {
  const dot = name.lastIndexOf('.');
  const [module, kind] = [name.slice(0, dot), name.slice(dot + 1)];
  const named = mappedHomes(module, search) ?? nearest(module, search.homes);
  if (kind === 'weight' && shape.length > 1) {
    const [outFeatures = 0, inFeatures = 0, ...kernel] = shape;
    const place =
      named.length > 0
        ? wholeLayer(name, shape, named, search)
        : fusedLayer({ module, outFeatures, inFeatures, kernel }, search);
    if (place) return place;
  }
  const biased = kind === 'bias' && shape.length === 1 ? named.filter((home) => hasBias(home, shape)) : [];
  const [first] = biased;
  if (!first)
    return (kind === 'bias' ? fusedBias(module, shape, search) : undefined) ?? placeConstant(name, shape, search);
  return {
    node: first.node.name,
    site: undefined,
    put(edits, values) {
      for (const target of edits.biasesOf(biased)) target.set(values);
    },
  };
}

function wholeLayer(
  name: string,
  shape: readonly number[],
  named: readonly Home[],
  { where, fanInFanOut }: ParameterSearch,
): Place {
  const fitting = named.filter((home) => orientation(home, shape) !== 'none');
  const [home, ...others] = fitting;
  if (home && others.some((other) => other.value !== home.value))
    throw homeError(where, `${name} [${shape.join(', ')}] fits ${list(fitting)}`);
  if (!home) {
    const message = `${name} is [${shape.join(', ')}], and in the graph ${list(named)}: for another base model?`;
    throw new CompilerError('compiler/lora-shape', message, { where });
  }
  const site: Site = { readers: [home, ...others], begin: 0, end: home.outFeatures };
  const found = orientation(home, shape);
  const isInOut = found === 'either' ? fanInFanOut : found === 'in-out';
  const { inFeatures, outFeatures } = home;
  return {
    node: home.node.name,
    site,
    put: (edits, values) => edits.weightsOf(site).set(isInOut ? transpose(values, inFeatures, outFeatures) : values),
  };
}

/** A run of the outputs of a product that other modules were fused into. */
function fusedLayer(wanted: Wanted, search: ParameterSearch): Place | undefined {
  const site = wanted.kernel.length === 0 ? fusedSite(wanted, search) : undefined;
  if (!site) return undefined;
  return {
    node: site.readers[0].node.name,
    site,
    put: (edits, values) => edits.weightsOf(site).set(values, site.begin * wanted.inFeatures),
  };
}

function fusedBias(module: string, shape: readonly number[], search: ParameterSearch): Place | undefined {
  const [outFeatures = 0] = shape;
  const sizes = new Set(search.homes.filter(({ bias }) => bias).map(({ inFeatures }) => inFeatures));
  for (const inFeatures of sizes) {
    const site = fusedSite({ module, outFeatures, inFeatures, kernel: [] }, search);
    if (!site?.readers[0].bias) continue;
    return {
      node: site.readers[0].node.name,
      site: undefined,
      put(edits, values) {
        for (const target of edits.biasesOf(site.readers)) target.set(values, site.begin);
      },
    };
  }
  return undefined;
}

/**
 * Which way round a module keeps the weights of this layer. A constant that still has the parameter's name was exported as
 * it is; a nameless one was turned on the way, as linear layers are.
 */
function orientation(home: Home, shape: readonly number[]): 'out-in' | 'in-out' | 'either' | 'none' {
  const { inFeatures, outFeatures, kernel, groups, node, tensor, storedInOut } = home;
  const isOutIn = shape.join() === [outFeatures, inFeatures, ...kernel].join();
  const isInOut = kernel.length === 0 && groups === 1 && shape.join() === [inFeatures, outFeatures].join();
  if (node.opType === 'Gather') return isInOut ? 'in-out' : 'none';
  if (isOutIn && isInOut) return /[./_]weight$/.test(tensor.name) ? (storedInOut ? 'in-out' : 'out-in') : 'either';
  return isOutIn ? 'out-in' : isInOut ? 'in-out' : 'none';
}

function hasBias({ bias, outFeatures }: Home, [length]: readonly number[]): boolean {
  return bias !== undefined && length === outFeatures;
}

interface Reader {
  readonly node: Node;
  readonly input: number;
  readonly value: string;
  readonly tensor: Tensor;
}

/** Norms, position tables and the like: read under their own name by whatever node. */
function placeConstant(name: string, shape: readonly number[], { graph, where }: ParameterSearch): Place | undefined {
  const readers = readersOf(graph, name);
  const [first] = readers;
  if (!first) return undefined;
  const names = [...new Set(readers.map(({ value }) => value))];
  if (names.length > 1) throw homeError(where, `${name} fits the constants ${names.slice(0, 4).join(', ')}`);
  const { dims, dtype } = first.tensor;
  if (dims.filter((dim) => dim !== 1).join() !== shape.filter((dim) => dim !== 1).join()) {
    const message = `${name} is [${shape.join(', ')}], and in the graph [${dims.join(', ')}]: for another base model?`;
    throw new CompilerError('compiler/lora-shape', message, { where });
  }
  return {
    node: first.node.name || first.value,
    site: undefined,
    put(_edits, values) {
      const value = graph.uniqueName(`${name}_merged`);
      graph.addInitializer(value, tensorOf(dims, values, dtype));
      for (const { node, input } of readers) node.setInput(input, value);
    },
  };
}

/**
 * Nodes that read a constant of the name most like this one. Equal constants may share the name of the first: a reader
 * whose own name is another module's is passed over, and one whose name is this module's found without the constant's.
 */
function readersOf(graph: Graph, name: string): readonly Reader[] {
  const dot = name.lastIndexOf('.');
  const [module, kind] = [name.slice(0, dot), name.slice(dot + 1)];
  const found: (Reader & { readonly rank: number; readonly own: boolean | undefined })[] = [];
  for (const node of graph.walk()) {
    const path = pathOfNode(node);
    const own = path === '' ? undefined : likeness(path, module) >= 2;
    for (const [input, value] of node.inputs.entries()) {
      const named = likeness(value, name);
      const rank = named >= 2 ? named : own === true && isParameter(node, input, kind) ? 1 : 0;
      const tensor = rank > 0 ? node.graph.constant(value) : undefined;
      if (tensor) found.push({ node, input, value, tensor, rank, own });
    }
  }
  const certain = found.filter(({ own }) => own === true);
  const kept = certain.length > 0 ? certain : found;
  const best = Math.max(0, ...kept.map(({ rank }) => rank));
  return kept.filter(({ rank }) => rank === best);
}

/** Where norms keep theirs, whole or taken apart. */
function isParameter({ opType, inputs }: Node, input: number, kind: string): boolean {
  if (opType.endsWith('Normalization')) return input === (kind === 'weight' ? 1 : kind === 'bias' ? 2 : -1);
  return inputs.length === 2 && opType === (kind === 'weight' ? 'Mul' : kind === 'bias' ? 'Add' : '');
}
