import type { Graph, Node } from '@flotilla/onnx';
import { scalarConstant, soleReader } from '../edit.ts';
import { type LinearNode, linearNode } from '../linear.ts';

/** How a node takes part in an int8 graph. */
export type Role =
  /** Conv, Gemm, MatMul with constant weights. */
  | { readonly kind: 'core'; readonly linear: LinearNode }
  /** Relu, Clip(0, c): the saturation of the node before does it. */
  | { readonly kind: 'saturate'; readonly most: number | undefined }
  /** HardSigmoid: the integers of the node before, cut and read at another scale. */
  | { readonly kind: 'gate'; readonly slope: number }
  /** `· a` (a > 0), `+ c`: the same integers, read at another scale and zero point. */
  | { readonly kind: 'reread'; readonly scale: number; readonly shift: number }
  /** Moves elements: runs on the integers as it is. */
  | { readonly kind: 'move' }
  /** Has an integer kernel between DequantizeLinear and QuantizeLinear. */
  | { readonly kind: 'compute' };

export interface Plan {
  readonly roles: ReadonlyMap<Node, Role>;
  /** Why a node is not in `roles`. */
  readonly reasons: ReadonlyMap<Node, string>;
}

export interface PlanOptions {
  /** Convolutions, in graph order, that stay float at the start: few multiplications, and every later layer pays for their error. */
  readonly keepFirst: number;
  /** Node names and operators that stay float. */
  readonly exclude: readonly string[];
  /** Whether calibration saw the value, or enough to know its range. */
  readonly isObserved: (value: string) => boolean;
}

const moves = new Set([
  'Reshape',
  'Transpose',
  'Squeeze',
  'Unsqueeze',
  'Flatten',
  'Slice',
  'MaxPool',
  'Expand',
  'Tile',
]);
const computes = new Set(['Add', 'Mul', 'Sigmoid', 'LeakyRelu', 'GlobalAveragePool', 'AveragePool', 'Concat']);

/** Moves elements, or picks among them: what held for the input's range holds for the output's. */
export const isMove = (node: Node) => node.domain === '' && moves.has(node.opType);

/**
 * Picks the nodes that run on integers. Linear nodes do; others only between them, since a lone one would pay for two
 * conversions and gain nothing.
 */
export function planInt8(graph: Graph, options: PlanOptions): Plan {
  const roles = new Map<Node, Role>();
  const reasons = new Map<Node, string>();
  let convolutions = 0;
  for (const node of graph.nodes) {
    const linear = linearNode(node);
    const first = node.opType === 'Conv' && linear !== undefined && convolutions++ < options.keepFirst;
    const reason = first
      ? 'one of the first convolutions, which cost accuracy and gain little'
      : notCore(node, linear, options);
    if (linear && reason === undefined) roles.set(node, { kind: 'core', linear });
    else if (reason !== undefined) reasons.set(node, reason);
  }
  addBetween(graph, options, roles);
  for (const node of graph.nodes) if (!roles.has(node) && !reasons.has(node)) reasons.set(node, defaultReason(node));
  return { roles, reasons };
}

function notCore(node: Node, linear: LinearNode | undefined, options: PlanOptions): string | undefined {
  if (isExcluded(node, options)) return 'excluded by the recipe';
  if (!linear) {
    if (node.opType === 'MatMul') return 'both factors are activations';
    if (node.opType === 'Conv' || node.opType === 'Gemm') return 'its weights are not float32 constants';
    return undefined;
  }
  if (node.opType === 'ConvTranspose') return 'ConvTranspose has no integer kernel';
  const [x = ''] = node.inputs;
  return options.isObserved(x) ? undefined : 'calibration never saw its activations';
}

const isExcluded = (node: Node, { exclude }: PlanOptions) =>
  exclude.includes(node.name) || exclude.includes(node.opType);

function addBetween(graph: Graph, options: PlanOptions, roles: Map<Node, Role>): void {
  // Forward: what could run on integers because all it reads does.
  const integer = new Set<string>();
  const candidates = new Map<Node, Role>();
  for (const node of graph.nodes) {
    const role =
      roles.get(node) ?? (isExcluded(node, options) ? undefined : roleBetween(graph, node, integer, roles, options));
    if (!role) continue;
    if (!roles.has(node)) candidates.set(node, role);
    // A MatMul or Gemm gives float sums unless integers are wanted; only Conv always gives integers.
    integer.add(node.outputs[0] ?? '');
  }
  for (const [node, role] of candidates) roles.set(node, role);
  // What is left when each of these is of use, and made of integers, is stable.
  const nodes = graph.nodes.filter((node) => candidates.has(node));
  for (let changed = true; changed; ) {
    changed = false;
    for (const node of [...nodes, ...nodes.toReversed()]) {
      const role = roles.get(node);
      if (!role || (isOfUse(graph, node, role, roles) && readsIntegers(graph, node, role, roles))) continue;
      roles.delete(node);
      changed = true;
    }
  }
}

/** Something that runs on integers reads it; saturation is free, and spares a pass over memory even before floats. */
function isOfUse(graph: Graph, node: Node, role: Role, roles: ReadonlyMap<Node, Role>): boolean {
  if (role.kind === 'gate') {
    // A gate and the product with it go together; one without the other would need the float form anyway.
    const around = [...graph.consumers(node.inputs[0] ?? ''), ...graph.consumers(node.outputs[0] ?? '')];
    return around.every((reader) => roles.has(reader));
  }
  return role.kind === 'saturate' || graph.consumers(node.outputs[0] ?? '').some((reader) => roles.has(reader));
}

function readsIntegers(graph: Graph, node: Node, role: Role, roles: ReadonlyMap<Node, Role>): boolean {
  const read = role.kind === 'compute' ? node.inputs : node.inputs.slice(0, 1);
  const data = role.kind === 'reread' ? node.inputs.filter((name) => !graph.constant(name)) : read;
  return data.every((name) => {
    const producer = graph.producer(name);
    return producer !== undefined && roles.has(producer);
  });
}

function roleBetween(
  graph: Graph,
  node: Node,
  integer: ReadonlySet<string>,
  roles: ReadonlyMap<Node, Role>,
  options: PlanOptions,
): Role | undefined {
  const [x = ''] = node.inputs;
  const [output = ''] = node.outputs;
  if (node.domain !== '' || node.outputs.length !== 1) return undefined;
  if (node.opType === 'Mul' || node.opType === 'Add') {
    const constantIndex = [1, 0].find((index) => scalarConstant(node, index) !== undefined);
    if (constantIndex !== undefined) {
      const value = scalarConstant(node, constantIndex) ?? 0;
      if (!integer.has(node.inputs[1 - constantIndex] ?? '')) return undefined;
      if (node.opType === 'Add') return { kind: 'reread', scale: 1, shift: value };
      return value > 0 ? { kind: 'reread', scale: value, shift: 0 } : undefined;
    }
  }
  if (!integer.has(x)) return undefined;
  const producer = graph.producer(x);
  // Only what chooses its own interval can saturate at another's bounds.
  const ownsInterval =
    producer !== undefined && (roles.get(producer)?.kind === 'core' || computes.has(producer.opType));
  switch (node.opType) {
    case 'Relu':
      return ownsInterval && soleReader(graph, x) === node ? { kind: 'saturate', most: undefined } : undefined;
    case 'Clip': {
      const [low, high] = [scalarConstant(node, 1), scalarConstant(node, 2)];
      const fits = low === 0 && high !== undefined && high > 0;
      return fits && ownsInterval && soleReader(graph, x) === node ? { kind: 'saturate', most: high } : undefined;
    }
    case 'HardSigmoid': {
      const slope = node.float('alpha', 0.2);
      // The gate must open as far above 0 as it closes below: then its top falls on a whole step.
      const even = Math.abs(node.float('beta', 0.5) - 0.5) < 1e-6 && slope > 0;
      return even && ownsInterval && gateReaders(graph, node) ? { kind: 'gate', slope } : undefined;
    }
  }
  if (moves.has(node.opType)) return { kind: 'move' };
  if (!computes.has(node.opType) || !options.isObserved(output)) return undefined;
  const data = node.opType === 'Sigmoid' || node.opType === 'LeakyRelu' ? [x] : node.inputs;
  return data.every((name) => integer.has(name)) ? { kind: 'compute' } : undefined;
}

/** What saturates where the gate closes may be read by the gate and the product with it, and nothing else. */
function gateReaders(graph: Graph, gate: Node): boolean {
  const [x = ''] = gate.inputs;
  if (graph.isOutput(x)) return false;
  return graph.consumers(x).every((reader) => {
    if (reader === gate) return true;
    return reader.opType === 'Mul' && reader.inputs.includes(x) && reader.inputs.includes(gate.outputs[0] ?? '');
  });
}

const floatOps = new Map([
  ['LayerNormalization', 'its kernel is float'],
  ['Softmax', 'its kernel is float, and its sums need the range'],
  ['Resize', 'the uint8 kernel is slower than the float one'],
  ['LSTM', 'a static int8 form does not exist'],
  ['GRU', 'a static int8 form does not exist'],
  ['RNN', 'a static int8 form does not exist'],
  ['If', 'its bodies stay as they are'],
  ['Loop', 'its bodies stay as they are'],
  ['Scan', 'its bodies stay as they are'],
]);

function defaultReason(node: Node): string {
  if (node.domain !== '') return `an operator of ${node.domain}`;
  const special = floatOps.get(node.opType);
  if (special !== undefined) return special;
  if (moves.has(node.opType) || computes.has(node.opType)) return 'not between quantized nodes';
  return 'no integer kernel';
}
