import type { Graph, Node } from '@flotilla/onnx';
import type { Calibration } from '../../calibrate/calibration.ts';
import { type Costs, elementCost, isGated } from './costs.ts';
import { MinimumCut } from './minimum-cut.ts';
import { onIntegers, type Role } from './plan.ts';

/** Less than this lies within what the costs are off by, and every node in float moves the range of others. */
const LEAST_SAVING = 0.05;

/**
 * Nodes of a plan that are better left in float: with few products for each element, or between floats, integers do not
 * earn the conversions and the passes over memory that they need. Every node costs so much in float and so much in
 * integers, every value that changes from one to the other costs its conversion; the cheapest of all assignments is a
 * minimum cut, with floats on the side of the sink.
 * @returns first outputs of those nodes
 * @see Stone, "Multiprocessor Scheduling with the Aid of Network Flow Algorithms" (1977)
 */
export function fasterInFloat(
  graph: Graph,
  roles: ReadonlyMap<Node, Role>,
  { costs, calibration }: { readonly costs: Costs; readonly calibration: Calibration },
): ReadonlySet<string> {
  const sizes = new Sizes(graph, calibration);
  const groups = groupsOf(graph, roles);
  const cut = new MinimumCut();
  for (const [node, group] of groups) {
    const role = roles.get(node) as Role;
    const { float, int8 } =
      role.kind === 'core' ? linearCost(node, role, costs, sizes) : betweenCost(node, role, sizes);
    cut.add('integers', group, float);
    cut.add(group, 'floats', int8);
    addEdges(cut, { graph, groups, costs, sizes }, node);
  }
  const inIntegers = cut.into('floats');
  const kept = cut.reachable('integers', 'floats');
  // What the cut has not used up is what it saves.
  if (cut.into('floats') < LEAST_SAVING * inIntegers) return new Set();
  return new Set([...groups].filter(([, group]) => !kept.has(group)).map(([node]) => node.outputs[0] ?? ''));
}

interface Network {
  readonly graph: Graph;
  readonly groups: ReadonlyMap<Node, string>;
  readonly costs: Costs;
  readonly sizes: Sizes;
}

/** The conversions around a node: of what it reads, and of what only floats read of it. */
function addEdges(cut: MinimumCut, { graph, groups, costs, sizes }: Network, node: Node): void {
  const own = groups.get(node) ?? '';
  const edge = node.opType === 'MatMul' || node.opType === 'Gemm' ? costs.productEdge : costs.convolutionEdge;
  for (const value of new Set(node.inputs)) {
    if (value === '' || graph.constant(value)) continue;
    const producer = graph.producer(value);
    const from = (producer && groups.get(producer)) ?? 'floats';
    if (from === own) continue;
    cut.add(own, from, edge * sizes.of(value));
    if (from !== 'floats') cut.add(from, own, edge * sizes.of(value));
  }
  const [output = ''] = node.outputs;
  const readers = graph.consumers(output);
  const intoFloats = graph.isOutput(output) || readers.some((reader) => !groups.has(reader));
  if (intoFloats && edge !== costs.productEdge) cut.add(own, 'floats', edge * sizes.of(output));
}

/** What must be one or the other together: a linear node with what vanishes into it, and its hard-swish. */
function groupsOf(graph: Graph, roles: ReadonlyMap<Node, Role>): ReadonlyMap<Node, string> {
  const groups = new Map<Node, string>();
  for (const node of graph.nodes) {
    const role = roles.get(node);
    if (!role || !onIntegers(role)) continue;
    const follows = role.kind === 'gate' || role.kind === 'saturate' || role.kind === 'reread' || isGated(node);
    const before = node.inputs.map((name) => graph.producer(name)).find((producer) => producer && groups.has(producer));
    groups.set(node, (follows && before && groups.get(before)) || (node.outputs[0] ?? ''));
  }
  return groups;
}

function linearCost(node: Node, { linear }: Extract<Role, { kind: 'core' }>, costs: Costs, sizes: Sizes) {
  const { weight, outputChannels } = linear;
  const products = weight.dims.reduce((product, dim) => product * dim, 1) / outputChannels;
  const isDepthwise = node.opType === 'Conv' && node.int('group', 1) === outputChannels && weight.dims[1] === 1;
  const { float, int8 } = isDepthwise ? costs.depthwise : costs.product;
  const elements = products * sizes.of(node.outputs[0] ?? '');
  return { float: elements * float, int8: elements * int8 };
}

function betweenCost(node: Node, role: Role, sizes: Sizes) {
  const { float, int8 } = elementCost(node, role);
  const elements = sizes.of(node.outputs[0] ?? '');
  return { float: elements * float, int8: elements * int8 };
}

/** Elements of a value in a calibration sample, on average. */
class Sizes {
  private readonly graph: Graph;
  private readonly calibration: Calibration;

  constructor(graph: Graph, calibration: Calibration) {
    this.graph = graph;
    this.calibration = calibration;
  }

  /** What was not observed has as many elements as what it was read off, or as what is read off it. */
  of(value: string): number {
    return this.seen(value) ?? this.before(value, 8) ?? 0;
  }

  private seen(value: string): number | undefined {
    const count = this.calibration.histogram(value)?.count;
    if (count !== undefined) return count / this.calibration.samples;
    for (const reader of this.graph.consumers(value)) {
      const after = this.calibration.histogram(reader.outputs[0] ?? '')?.count;
      if (after !== undefined && sameSize.has(reader.opType)) return after / this.calibration.samples;
    }
    return undefined;
  }

  private before(value: string, depth: number): number | undefined {
    const producer = this.graph.producer(value);
    if (!producer || depth === 0) return undefined;
    const source = producer.inputs.find((name) => name !== '' && !this.graph.constant(name)) ?? '';
    return this.seen(source) ?? this.before(source, depth - 1);
  }
}

const sameSize = new Set(['Relu', 'Clip', 'Max', 'Min', 'HardSigmoid', 'Sigmoid', 'LeakyRelu']);
