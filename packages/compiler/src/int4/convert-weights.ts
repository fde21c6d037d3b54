import { floats, type Graph, type Node } from '@flotilla/onnx';
import { QuantError } from '@flotilla/quant';
import { z } from 'zod';
import { CompilerError } from '../errors.ts';
import { isNamed } from '../node-key.ts';
import type { PassContext } from '../pass.ts';
import { isHead } from './is-head.ts';
import { isPositionTable } from './position-table.ts';
import { type Storage, storeInt8 } from './store.ts';
import { sizesAt, type WeightSite, weightSite } from './weight-site.ts';

/** Which weights a 4-bit pass takes. */
export const selection = {
  ops: z.array(z.enum(['Conv', 'Gemm', 'MatMul', 'Gather'])).default(['Conv', 'Gemm', 'MatMul', 'Gather']),
  /** Weights with fewer elements stay float: they cost accuracy and save nothing. */
  minElements: z.int().min(1).default(1024),
  /** What becomes of weights whose axis is shorter than 16: depthwise and first convolutions. */
  shortAxes: z.enum(['int8', 'float']).default('int8'),
  /**
   * What becomes of the last layer. Its errors reach the answer unsmoothed: on the label recogniser 4 bits there cost more
   * lines than in any other layer; llama.cpp's 4-bit files keep theirs at 6 bits.
   */
  head: z.enum(['int8', 'int4']).default('int8'),
  /** Names of nodes (or of their first outputs) that the pass looks at; default: all. A plan has one pass a format. */
  only: z.array(z.string()).optional(),
  /** Names of nodes whose weights are stored as int8 instead. */
  int8: z.array(z.string()).default([]),
  /** Names of nodes that stay float. */
  float: z.array(z.string()).default([]),
};

const selectionSchema = z.object(selection);
export type Selection = z.output<typeof selectionSchema>;

/** Stores one weight in 4 bits. */
export type Store = (graph: Graph, site: WeightSite, name: string) => Storage;

/** The weights that a selection takes, in the graph's order. */
export function chosenSites(graph: Graph, chosen: Selection): WeightSite[] {
  return candidates(graph, chosen).flatMap((node) => {
    const site = weightSite(node.graph, node);
    return typeof site === 'string' || staysFloat(site, chosen) !== undefined ? [] : [site];
  });
}

/**
 * Gives every chosen weight its stored form, and says of each node what became of it. Two readers of one weight read one
 * form: a tied embedding stays tied.
 * @throws {CompilerError} `compiler/opset`; `compiler/weights`, naming the node
 */
export function convertWeights(graph: Graph, context: PassContext, chosen: Selection, store: Store): void {
  const opset = graph.model.opset.get('') ?? 0;
  if (opset < 21) {
    throw new CompilerError('compiler/opset', `blocks of 4 bits need opset 21, the model has ${opset}`, {
      hint: 'put the pass upgrade-opset before the conversion',
    });
  }
  const done = new Map<string, Storage>();
  const nodes = candidates(graph, chosen);
  for (const [index, node] of nodes.entries()) {
    context.signal?.throwIfAborted();
    convertNode(node, { chosen, store, done }, context);
    context.progress(index + 1, nodes.length);
  }
  graph.removeDead();
}

function candidates(graph: Graph, { ops, only }: Selection): Node[] {
  const asked = (node: Node): boolean => only === undefined || isNamed(only, node);
  return [...graph.walk()].filter((node) => node.domain === '' && ops.some((op) => op === node.opType) && asked(node));
}

interface Job {
  readonly chosen: Selection;
  readonly store: Store;
  readonly done: Map<string, Storage>;
}

function convertNode(node: Node, { chosen, store, done }: Job, context: PassContext): void {
  const site = weightSite(node.graph, node);
  if (typeof site === 'string') {
    // A Gather of shapes or of computed rows is no weight that anyone would look for in the report.
    if (node.opType !== 'Gather') context.note(node, site, 'float');
    return;
  }
  const reason = staysFloat(site, chosen);
  if (reason !== undefined) {
    context.note(node, reason, 'float');
    return;
  }
  const value = node.inputs[site.input] ?? '';
  const key = JSON.stringify([value, site.axis, isNamed(chosen.int8, node)]);
  let storage = node.graph.owner === undefined ? done.get(key) : undefined;
  if (storage === undefined) {
    storage = storeSite(site, value, chosen, store);
    done.set(key, storage);
  }
  node.setInput(site.input, storage.value);
  context.note(node, storage.reason, 'quantized');
}

function staysFloat({ node, tensor, axis }: WeightSite, chosen: Selection): string | undefined {
  const { rows, cols, inner } = sizesAt(tensor.dims, axis);
  if (isNamed(chosen.float, node)) return 'the recipe keeps it float';
  if (tensor.dtype !== 'float32') return `its weight is ${tensor.dtype}`;
  if (rows * cols * inner < chosen.minElements) return `only ${rows * cols * inner} weights`;
  if (cols < 16 && chosen.shortAxes === 'float') return `only ${cols} weights to sum over, too few for a block`;
  if (node.opType === 'Gather' && isPositionTable(floats(tensor), cols)) return 'a table of positions, not of tokens';
  return undefined;
}

function storeSite(site: WeightSite, value: string, chosen: Selection, store: Store): Storage {
  const { graph, name, opType } = site.node;
  const { cols } = sizesAt(site.tensor.dims, site.axis);
  try {
    if (cols < 16) return storeInt8(graph, site, value, `only ${cols} weights to sum over`);
    if (chosen.head === 'int8' && isHead(graph, site.node)) return storeInt8(graph, site, value, 'the last layer');
    if (isNamed(chosen.int8, site.node)) return storeInt8(graph, site, value, 'the recipe asks for it');
    return store(graph, site, value);
  } catch (cause) {
    if (!(cause instanceof QuantError)) throw cause;
    throw new CompilerError('compiler/weights', `${opType} ${name}: ${cause.message}`, { where: name, cause });
  }
}
