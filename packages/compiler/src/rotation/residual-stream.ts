import type { Graph, Node } from '@flotilla/onnx';
import { floatConstant } from '../passes/edit.ts';
import { rmsNorms, type RmsNorm } from './rms-norms.ts';

/** A constant that meets the stream, and along which of its axes the channels lie. */
export interface StreamConstant {
  readonly node: Node;
  readonly input: number;
  readonly axis: number;
}

/** Everything that writes to or reads from the sum that runs through a transformer. */
export interface ResidualStream {
  readonly channels: number;
  /** Embedding, projections and biases that add to the stream. */
  readonly writers: readonly StreamConstant[];
  /** Each norm with the projections that read it. */
  readonly norms: readonly { readonly norm: RmsNorm; readonly readers: readonly StreamConstant[] }[];
}

/**
 * The residual stream of an RMSNorm transformer, found by structure: sums of an embedding and projections, which nothing
 * but norms, further sums and Shape reads.
 * @returns in words, why there is none that could be turned
 */
export function residualStream(graph: Graph): ResidualStream | string {
  const norms = rmsNorms(graph);
  if (norms.length === 0) return 'no RMSNorm';
  const found = new Finder(graph);
  for (const { x } of norms) found.addStream(x);
  if (found.problem !== undefined) return found.problem;
  const entries = new Set(norms.flatMap((norm) => norm.entries));
  const stray = found.strayReader(entries);
  if (stray) return `${stray.opType} ${stray.name} reads the residual stream itself`;
  const read: { norm: RmsNorm; readers: StreamConstant[] }[] = [];
  for (const norm of norms) {
    const readers = readersOf(graph, norm.output);
    if (typeof readers === 'string') return readers;
    read.push({ norm, readers });
  }
  const widths = new Set([...found.writers, ...read.flatMap(({ readers }) => readers)].map(widthOf));
  const [channels, ...others] = widths;
  if (channels === undefined || others.length > 0) return `streams of ${[...widths].join(' and ')} channels`;
  return { channels, writers: found.writers, norms: read };
}

function widthOf({ node, input, axis }: StreamConstant): number {
  return floatConstant(node, input)?.dims[axis] ?? 0;
}

class Finder {
  private readonly graph: Graph;
  private readonly values = new Set<string>();
  private readonly sums = new Set<Node>();
  readonly writers: StreamConstant[] = [];
  problem: string | undefined;
  constructor(graph: Graph) {
    this.graph = graph;
  }

  /** Follows a value back to the embedding and the projections that it sums. */
  addStream(value: string): void {
    if (this.values.has(value) || this.problem !== undefined) return;
    const { graph } = this;
    const node = graph.producer(value);
    if (!node || node.domain !== '') return this.fail(value, node);
    if (graph.isOutput(value)) return this.fail(value, node);
    const projection = projectionWeight(node);
    if (node.opType === 'Gather' && node.int('axis', 0) === 0 && floatConstant(node, 0)?.dims.length === 2) {
      this.addWriter({ node, input: 0, axis: 1 });
    } else if (projection) {
      this.addWriter({ node, input: 1, axis: 1 - projection.axis });
      if ((node.inputs[2] ?? '') !== '') this.addRow(node, 2);
    } else if (node.opType === 'Add') {
      this.sums.add(node);
      for (const [index, input] of node.inputs.entries()) {
        if (floatConstant(node, index)) this.addRow(node, index);
        else this.addStream(input);
      }
    } else return this.fail(value, node);
    this.values.add(value);
  }

  /** A node beside the norms and sums that reads the stream. */
  strayReader(entries: ReadonlySet<Node>): Node | undefined {
    for (const value of this.values) {
      const stray = this.graph
        .consumers(value)
        .find((node) => !entries.has(node) && !this.sums.has(node) && node.opType !== 'Shape');
      if (stray) return stray;
    }
    return undefined;
  }

  private addRow(node: Node, input: number): void {
    if (floatConstant(node, input)?.dims.length === 1) this.addWriter({ node, input, axis: 0 });
    else this.fail(node.inputs[input] ?? '', node);
  }

  private addWriter(writer: StreamConstant): void {
    // A tied embedding has another reader, which would have to be turned the other way.
    if (this.graph.consumers(writer.node.inputs[writer.input] ?? '').length > 1)
      this.problem ??= `the weight of ${writer.node.opType} ${writer.node.name} has other readers`;
    this.writers.push(writer);
  }

  private fail(value: string, node: Node | undefined): void {
    this.problem ??= `${value} is made by ${node ? `${node.opType} ${node.name}` : 'no node'}, not by a sum of projections`;
  }
}

/** Where a projection's inputs lie in its weight. */
function projectionWeight(node: Node): { readonly axis: 0 | 1 } | undefined {
  if (node.domain !== '' || floatConstant(node, 1)?.dims.length !== 2) return undefined;
  if (node.opType === 'MatMul') return { axis: 0 };
  const plain = node.float('alpha', 1) === 1 && node.float('beta', 1) === 1 && node.int('transA', 0) === 0;
  if (node.opType !== 'Gemm' || !plain) return undefined;
  return { axis: node.int('transB', 0) === 0 ? 0 : 1 };
}

/** The projections that read a norm's output; nothing else may. */
export function readersOf(graph: Graph, value: string): StreamConstant[] | string {
  if (graph.isOutput(value)) return `${value} is an output of the graph`;
  const readers: StreamConstant[] = [];
  for (const node of graph.consumers(value)) {
    if (node.opType === 'Shape') continue;
    const weight = node.graph === graph && node.inputs[0] === value ? projectionWeight(node) : undefined;
    if (!weight) return `${node.opType} ${node.name} reads a norm, and is no projection`;
    if (graph.consumers(node.inputs[1] ?? '').length > 1) return `the weight of ${node.name} has other readers`;
    readers.push({ node, input: 1, axis: weight.axis });
  }
  return readers;
}
