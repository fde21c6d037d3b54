import { elementCount, type Graph, type Node, type Tensor } from '@flotilla/onnx';
import { QuantError } from '@flotilla/quant';
import { z } from 'zod';
import { CompilerError } from '../errors.ts';
import { isNamed } from '../node-key.ts';
import { floatConstant } from '../passes/edit.ts';
import { isRecurrent, storeRecurrent } from '../passes/int8/recurrent.ts';
import { type StoredConstants, storeWeights } from '../passes/int8/weights.ts';
import { linearNode } from '../passes/linear.ts';
import type { PassContext } from '../pass.ts';
import { isHead } from './is-head.ts';
import { isPositionTable } from './position-table.ts';
import { ahead } from '../kernels/ahead.ts';
import type { Kernels } from '../kernels/kernels.ts';
import { type Place, type Storage, storeInt8 } from './store.ts';
import { readInstead, sizesAt, type WeightSite, weightSite } from './weight-site.ts';

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

/** Makes the 4-bit form of one weight. */
export type Store = (site: WeightSite, name: string) => Promise<Place>;

/** Whether a node's form is asked for only when all before it have theirs in the graph. */
export type Waits = (node: Node) => boolean;

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
export async function convertWeights(
  graph: Graph,
  context: PassContext,
  chosen: Selection,
  store: Store,
  waits?: Waits,
): Promise<void> {
  const opset = graph.model.opset.get('') ?? 0;
  if (opset < 21) {
    throw new CompilerError('compiler/opset', `blocks of 4 bits need opset 21, the model has ${opset}`, {
      hint: 'put the pass upgrade-opset before the conversion',
    });
  }
  const plan = planOf(graph, chosen);
  const total = plan.reduce((sum, { bytes }) => sum + bytes, 0);
  const { kernels, signal } = context;
  const start = ({ isFirst, site, value }: Planned): Promise<Place | undefined> =>
    isFirst && site ? makeForm(site, value, { chosen, store, kernels }) : Promise.resolve(undefined);
  const done = new Map<string, Storage>();
  let bytes = 0;
  // Forms are made ahead, on threads; they are put in one by one in the graph's order, so names come out the same.
  for await (const [planned, place] of ahead(plan, {
    width: kernels.width,
    start,
    waits: waits && (({ node, isFirst }) => isFirst && waits(node)),
    signal,
  })) {
    const { node, site, key, reason } = planned;
    if (place) done.set(key, place(node.graph));
    const storage = site && done.get(key);
    if (storage) readInstead(site, storage.value);
    if (storage) context.note(node, storage.reason, 'quantized');
    else if (reason !== undefined) context.note(node, reason, 'float');
    if (planned.bytes > 0) context.progress((bytes += planned.bytes), total, 'bytes');
  }
  storeUnblocked(graph, context, chosen);
  graph.removeDead();
}

/** Operators whose weights no kernel reads in blocks; int8 by channel is a quarter of the file all the same. */
function storeUnblocked(graph: Graph, { note }: PassContext, { minElements, only, float }: Selection): void {
  const stored: StoredConstants = new Map();
  for (const node of Array.from(graph.walk())) {
    const linear = node.opType === 'ConvTranspose' ? linearNode(node) : undefined;
    if (!(linear || isRecurrent(node)) || (only !== undefined && !isNamed(only, node))) continue;
    const elements = [1, 2].reduce((sum, index) => sum + countElements(floatConstant(node, index)), 0);
    if (isNamed(float, node)) note(node, 'the recipe keeps it float', 'float');
    else if (elements < minElements) note(node, `only ${elements} weights`, 'float');
    else if (linear ? storeWeights(linear, stored) : storeRecurrent(node, stored))
      note(node, 'int8: its kernel takes no blocks', 'quantized');
  }
}

const countElements = (tensor: Tensor | undefined): number => (tensor === undefined ? 0 : elementCount(tensor));

/** What will become of one node. */
interface Planned {
  readonly node: Node;
  /** Undefined: its weights stay as they are. */
  readonly site: WeightSite | undefined;
  readonly reason: string | undefined;
  readonly value: string;
  /** Nodes with one key read one form. */
  readonly key: string;
  readonly isFirst: boolean;
  /** Of the weight, where this node is the first to read it. */
  readonly bytes: number;
}

function planOf(graph: Graph, chosen: Selection): readonly Planned[] {
  const keys = new Set<string>();
  return candidates(graph, chosen).map((node, index) => {
    const site = weightSite(node.graph, node);
    // A Gather of shapes or of computed rows is no weight that anyone would look for in the report.
    const reason = typeof site === 'string' ? (node.opType === 'Gather' ? undefined : site) : staysFloat(site, chosen);
    const none = { node, site: undefined, reason, value: '', key: '', isFirst: false, bytes: 0 };
    if (typeof site === 'string' || reason !== undefined) return none;
    const { value } = site;
    // Bodies share nothing with one another.
    const own = node.graph.owner === undefined ? '' : index;
    const key = JSON.stringify([value, site.axis, isNamed(chosen.int8, node), own]);
    const isFirst = !keys.has(key);
    keys.add(key);
    return { node, site, reason, value, key, isFirst, bytes: isFirst ? site.tensor.byteLength : 0 };
  });
}

function candidates(graph: Graph, { ops, only }: Selection): Node[] {
  const asked = (node: Node): boolean => only === undefined || isNamed(only, node);
  return [...graph.walk()].filter((node) => node.domain === '' && ops.some((op) => op === node.opType) && asked(node));
}

function staysFloat({ node, tensor, axis }: WeightSite, chosen: Selection): string | undefined {
  const { rows, cols, inner } = sizesAt(tensor.dims, axis);
  if (isNamed(chosen.float, node)) return 'the recipe keeps it float';
  if (tensor.dtype !== 'float32') return `its weight is ${tensor.dtype}`;
  if (rows * cols * inner < chosen.minElements) return `only ${rows * cols * inner} weights`;
  if (cols < 16 && chosen.shortAxes === 'float') return `only ${cols} weights to sum over, too few for a block`;
  if (node.opType === 'Gather' && isPositionTable(tensor, cols)) return 'a table of positions, not of tokens';
  return undefined;
}

interface Making {
  readonly chosen: Selection;
  readonly store: Store;
  readonly kernels: Kernels;
}

async function makeForm(site: WeightSite, value: string, { chosen, store, kernels }: Making): Promise<Place> {
  const { name, opType } = site.node;
  const { cols } = sizesAt(site.tensor.dims, site.axis);
  const int8 = (why: string): Promise<Place> => storeInt8(kernels, site, value, why);
  try {
    if (cols < 16) return await int8(`only ${cols} weights to sum over`);
    if (chosen.head === 'int8' && isHead(site.node.graph, site.node)) return await int8('the last layer');
    if (isNamed(chosen.int8, site.node)) return await int8('the recipe asks for it');
    return await store(site, value);
  } catch (cause) {
    if (!(cause instanceof QuantError)) throw cause;
    throw new CompilerError('compiler/weights', `${opType} ${name}: ${cause.message}`, { where: name, cause });
  }
}
