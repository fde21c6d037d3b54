import type { WholeParameter } from '@flotilla/checkpoint';
import type { Graph, Node, Tensor } from '@flotilla/onnx';
import { CompilerError } from '../errors.ts';
import type { Home } from './homes.ts';
import { type LayerEdits, tensorOf, transpose } from './layer-edits.ts';
import { likeness, pathOfNode } from './paths.ts';
import { homeError, list, mappedHomes, nearest, type Search } from './sites.ts';

/** Something found, to be carried out once everything is found. */
export interface Change {
  /** The node that it changes. */
  readonly node: string;
  carryOut(edits: LayerEdits): void;
}

export interface ParameterSearch extends Search {
  readonly graph: Graph;
  /** Square weights of layers whose names say nothing are `[in, out]`. */
  readonly fanInFanOut: boolean;
}

/**
 * Where a parameter that was trained whole goes: the layer of its module, else the nodes that read a constant of its name.
 * @throws {CompilerError} `compiler/lora-home` naming the candidates; `compiler/lora-shape`
 */
export function planParameter(name: string, parameter: WholeParameter, search: ParameterSearch): Change {
  const dot = name.lastIndexOf('.');
  const [module, kind] = [name.slice(0, dot), name.slice(dot + 1)];
  const named = mappedHomes(module, search) ?? nearest(module, search.homes);
  if (kind === 'weight' && parameter.shape.length > 1 && named.length > 0)
    return weightChange(oneWeight(name, parameter, named, search.where), parameter, search);
  const biased = kind === 'bias' ? named.filter((home) => hasBias(home, parameter)) : [];
  const [first] = biased;
  if (first) return { node: first.node.name, carryOut: (edits) => setAll(edits.biasesOf(biased), parameter.values) };
  return constantChange(name, parameter, search);
}

function oneWeight(
  name: string,
  { shape }: WholeParameter,
  named: readonly Home[],
  where: string,
): readonly [Home, ...Home[]] {
  const fitting = named.filter((home) => orientation(home, shape) !== 'none');
  const [home, ...others] = fitting;
  if (home && others.every((other) => other.value === home.value)) return [home, ...others];
  if (home) throw homeError(where, `${name} [${shape.join(', ')}] fits ${list(fitting)}`);
  const message = `${name} is [${shape.join(', ')}], and in the graph ${list(named)}: for another base model?`;
  throw new CompilerError('compiler/lora-shape', message, { where });
}

function weightChange(
  readers: readonly [Home, ...Home[]],
  { shape, values }: WholeParameter,
  { fanInFanOut }: ParameterSearch,
): Change {
  const [home] = readers;
  const found = orientation(home, shape);
  const isInOut = found === 'either' ? fanInFanOut : found === 'in-out';
  const { inFeatures, outFeatures } = home;
  const weights = isInOut ? transpose(values, inFeatures, outFeatures) : values;
  return { node: home.node.name, carryOut: (edits) => edits.weightsOf({ readers }).set(weights) };
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

function hasBias({ bias, outFeatures }: Home, { shape }: WholeParameter): boolean {
  return bias !== undefined && shape.length === 1 && shape[0] === outFeatures;
}

function setAll(targets: readonly Float32Array[], values: Float32Array): void {
  for (const target of targets) target.set(values);
}

interface Reader {
  readonly node: Node;
  readonly input: number;
  readonly value: string;
  readonly tensor: Tensor;
}

/** Norms, position tables and the like: read under their own name by whatever node. */
function constantChange(name: string, { shape, values }: WholeParameter, { graph, where }: ParameterSearch): Change {
  const readers = readersOf(graph, name);
  const [first] = readers;
  if (!first)
    throw homeError(where, `${name} [${shape.join(', ')}] has no home in the graph: no constant has its name`);
  const names = [...new Set(readers.map(({ value }) => value))];
  if (names.length > 1) throw homeError(where, `${name} fits the constants ${names.slice(0, 4).join(', ')}`);
  const { dims, dtype } = first.tensor;
  if (dims.filter((dim) => dim !== 1).join() !== shape.filter((dim) => dim !== 1).join()) {
    const message = `${name} is [${shape.join(', ')}], and in the graph [${dims.join(', ')}]: for another base model?`;
    throw new CompilerError('compiler/lora-shape', message, { where });
  }
  return {
    node: first.node.name || first.value,
    carryOut() {
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
