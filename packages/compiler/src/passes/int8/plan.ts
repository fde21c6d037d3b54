import type { Graph, Node } from '@flotilla/onnx';
import { isNamed } from '../../node-key.ts';
import { scalarConstant, soleReader } from '../edit.ts';
import { type LinearNode, linearNode } from '../linear.ts';
import { spectrumReason } from './spectrum.ts';

/** How a node takes part in an int8 graph. */
export type Role =
  /** Conv, Gemm, MatMul with constant weights. */
  | { readonly kind: 'core'; readonly linear: LinearNode }
  /** Weights stored in int8 or fp16, arithmetic in float. */
  | ({ readonly kind: 'stored'; readonly linear: LinearNode } & InFloat)
  /** Relu, Clip, Max or Min with a constant: the saturation of the node before does it. 0 lies between the bounds. */
  | { readonly kind: 'saturate'; readonly least: number; readonly most: number }
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

/** A node that computes in float though it need not. */
export interface InFloat {
  readonly why: string;
  /** What its weights are stored as. */
  readonly weights: 'int8' | 'fp16';
}

/** Whether the node's arithmetic is in integers. */
export const onIntegers = (role: Role | undefined): boolean => role !== undefined && role.kind !== 'stored';

export interface PlanOptions {
  /** Convolutions, in graph order, that stay float at the start: few multiplications, and every later layer pays for their error. */
  readonly keepFirst: number;
  /** Node names and operators that stay float. */
  readonly exclude: readonly string[];
  /**
   * Whether squeeze and excitation is float from the pooling to the product: its result scales every pixel of a
   * channel, and an error in it is not evened out as rounding is. Its convolutions take next to no time.
   */
  readonly floatPooled: boolean;
  /**
   * With `floatPooled`, whether only the gate is float and the product with it is in integers: that spares three passes
   * over the whole value, for a little more rounding (on labels 2.05 instead of 1.92 % mean distance of the outputs).
   */
  readonly integerExcitation: boolean;
  /** Nodes that compute in float though they need not, by their first outputs. */
  readonly inFloat?: ReadonlyMap<string, InFloat> | undefined;
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
  const pooled = options.floatPooled ? pooledValues(graph) : new Set<string>();
  let convolutions = 0;
  for (const node of graph.nodes) {
    const linear = linearNode(node);
    const first = node.opType === 'Conv' && linear !== undefined && convolutions++ < options.keepFirst;
    const [output = ''] = node.outputs;
    const inFloat = pooled.has(output) ? POOLED : options.inFloat?.get(output);
    const reason = first
      ? 'one of the first convolutions, which cost accuracy and gain little'
      : notCore(node, linear, inFloat ? { ...options, isObserved: () => true } : options);
    if (linear && reason === undefined)
      roles.set(node, inFloat ? { kind: 'stored', linear, ...inFloat } : { kind: 'core', linear });
    else if (reason !== undefined || isInFloat(node, options)) reasons.set(node, reason ?? inFloat?.why ?? '');
  }
  addBetween({ graph, options, roles, pooled });
  for (const node of graph.nodes) if (!roles.has(node) && !reasons.has(node)) reasons.set(node, defaultReason(node));
  return { roles, reasons };
}

const POOLED: InFloat = { why: 'a pooled vector scales every pixel and takes no time', weights: 'int8' };

/** Outputs of global pooling, and what convolutions and activations make of them: one element a channel. */
function pooledValues(graph: Graph): Set<string> {
  const values = new Set<string>();
  for (const node of graph.nodes) {
    const keeps =
      ['Conv', 'Relu', 'HardSigmoid', 'Sigmoid', 'Clip'].includes(node.opType) && values.has(node.inputs[0] ?? '');
    const both = node.opType === 'Mul' && node.inputs.every((name) => values.has(name));
    const moved = values.has(rereading(node)?.of ?? '');
    if (node.opType === 'GlobalAveragePool' || keeps || both || moved) values.add(node.outputs[0] ?? '');
  }
  return values;
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
  return options.isObserved(x) ? spectrumReason(node) : 'calibration never saw its activations';
}

const isExcluded = (node: Node, { exclude }: PlanOptions) => isNamed(exclude, node) || exclude.includes(node.opType);

const isInFloat = (node: Node, { inFloat }: PlanOptions) => inFloat?.has(node.outputs[0] ?? '') === true;

interface Planning {
  readonly graph: Graph;
  readonly options: PlanOptions;
  readonly roles: Map<Node, Role>;
  readonly pooled: ReadonlySet<string>;
}

function addBetween(planning: Planning): void {
  const { graph, options, roles } = planning;
  // Forward: what could run on integers because all it reads does.
  const integer = new Set<string>();
  const candidates = new Map<Node, Role>();
  for (const node of graph.nodes) {
    const role =
      roles.get(node) ??
      (isExcluded(node, options) || isInFloat(node, options) ? undefined : roleBetween(planning, node, integer));
    if (!role || role.kind === 'stored') continue;
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
      if (!role || (isOfUse(planning, node, role) && readsIntegers(planning, node, role))) continue;
      roles.delete(node);
      changed = true;
    }
  }
}

/** Something that runs on integers reads it; saturation is free, and spares a pass over memory even before floats. */
function isOfUse({ graph, roles }: Planning, node: Node, role: Role): boolean {
  if (role.kind === 'gate') {
    // A gate and the product with it go together; one without the other would need the float form anyway.
    const around = [...graph.consumers(node.inputs[0] ?? ''), ...graph.consumers(node.outputs[0] ?? '')];
    return around.every((reader) => onIntegers(roles.get(reader)));
  }
  return (
    role.kind === 'saturate' || graph.consumers(node.outputs[0] ?? '').some((reader) => onIntegers(roles.get(reader)))
  );
}

function readsIntegers(planning: Planning, node: Node, role: Role): boolean {
  const { graph, roles } = planning;
  const data = node.inputs.filter((name, index) =>
    role.kind === 'move' ? index === 0 : name !== '' && !graph.constant(name),
  );
  const isInteger = (name: string) => {
    const made = roles.get(graph.producer(name) ?? node);
    return made !== undefined && made !== role && made.kind !== 'stored';
  };
  return data.some(isInteger) && data.every((name) => isInteger(name) || isExcitation(planning, node, name));
}

function roleBetween(planning: Planning, node: Node, integer: ReadonlySet<string>): Role | undefined {
  const { graph, options, roles, pooled } = planning;
  const [x = ''] = node.inputs;
  const [output = ''] = node.outputs;
  if (node.domain !== '' || node.outputs.length !== 1) return undefined;
  const bounds = boundsOf(node);
  if (bounds)
    return integer.has(bounds.of) && canSaturate(planning, node, bounds) ? { kind: 'saturate', ...bounds } : undefined;
  const affine = rereading(node);
  if (affine) return integer.has(affine.of) && affine.scale > 0 ? { kind: 'reread', ...affine } : undefined;
  if (node.opType === 'HardSigmoid') {
    const slope = node.float('alpha', 0.2);
    // The gate must open as far above 0 as it closes below: then its top falls on a whole step.
    const even = Math.abs(node.float('beta', 0.5) - 0.5) < 1e-6 && slope > 0;
    const fits = even && integer.has(x) && ownsInterval(planning, x) && gateReaders(graph, node);
    return fits ? { kind: 'gate', slope } : undefined;
  }
  if (moves.has(node.opType)) return integer.has(x) ? { kind: 'move' } : undefined;
  if (!computes.has(node.opType) || !options.isObserved(output)) return undefined;
  const data = node.opType === 'Sigmoid' || node.opType === 'LeakyRelu' ? [x] : node.inputs;
  const intoFloat =
    pooled.has(output) && graph.consumers(output).every((reader) => roles.get(reader)?.kind === 'stored');
  const ready = data.every((name) => integer.has(name) || isExcitation(planning, node, name));
  return ready && data.some((name) => integer.has(name)) && !intoFloat ? { kind: 'compute' } : undefined;
}

/** A pooled gate, computed in float, that scales the channels of integers. */
function isExcitation({ graph, options, pooled }: Planning, node: Node, name: string): boolean {
  const producer = graph.producer(name);
  // A shortcut around it adds 1.
  const gate = graph.producer(rereading(producer)?.of ?? '') ?? producer;
  const isGate = gate?.opType === 'HardSigmoid' || gate?.opType === 'Sigmoid';
  return options.integerExcitation && node.opType === 'Mul' && pooled.has(name) && isGate;
}

/** What a node cuts its input to, where 0 lies between the bounds. */
function boundsOf(node: Node): { of: string; least: number; most: number } | undefined {
  const [x = ''] = node.inputs;
  const none = Number.POSITIVE_INFINITY;
  const given = (index: number) => scalarConstant(node, index);
  switch (node.opType) {
    case 'Relu':
      return { of: x, least: 0, most: none };
    case 'Clip': {
      const [least, most] = [1, 2].map((index) => ((node.inputs[index] ?? '') === '' ? none : given(index)));
      if (least === undefined || most === undefined) return undefined;
      const bounds = { of: x, least: least === none ? -none : least, most };
      return bounds.least <= 0 && most > 0 ? bounds : undefined;
    }
    case 'Max':
    case 'Min': {
      if (node.inputs.length !== 2) return undefined;
      const index = given(1) === undefined ? 0 : 1;
      const bound = given(index);
      const of = node.inputs[1 - index] ?? '';
      if (node.opType === 'Max')
        return bound !== undefined && bound <= 0 ? { of, least: bound, most: none } : undefined;
      return bound !== undefined && bound > 0 ? { of, least: -none, most: bound } : undefined;
    }
    default:
      return undefined;
  }
}

function canSaturate(planning: Planning, node: Node, { of }: { of: string }): boolean {
  return ownsInterval(planning, of) && soleReader(planning.graph, of) === node;
}

/** Only what chooses its own interval can saturate at another's bounds. */
function ownsInterval({ graph, roles }: Planning, value: string): boolean {
  const producer = graph.producer(value);
  return producer !== undefined && (roles.get(producer)?.kind === 'core' || computes.has(producer.opType));
}

/** `scale · of + shift` with constants of one element. */
export function rereading(node: Node | undefined): { of: string; scale: number; shift: number } | undefined {
  if (!node || (node.opType !== 'Mul' && node.opType !== 'Add') || node.domain !== '') return undefined;
  for (const index of [1, 0]) {
    const value = scalarConstant(node, index);
    if (value === undefined) continue;
    const of = node.inputs[1 - index] ?? '';
    return node.opType === 'Mul' ? { of, scale: value, shift: 0 } : { of, scale: 1, shift: value };
  }
  return undefined;
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
  ['Resize', 'the uint8 kernel that interpolates is slower than the float one'],
  ['LSTM', 'a static int8 form does not exist; weights stored in int8'],
  ['GRU', 'a static int8 form does not exist; weights stored in int8'],
  ['RNN', 'a static int8 form does not exist; weights stored in int8'],
]);

function defaultReason(node: Node): string {
  if (node.domain !== '') return `an operator of ${node.domain}`;
  const special = floatOps.get(node.opType);
  if (special !== undefined) return special;
  if (moves.has(node.opType) || computes.has(node.opType)) return 'not between quantized nodes';
  return 'no integer kernel';
}
