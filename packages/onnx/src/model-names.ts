import type { GraphBody } from './graph.ts';
import type { GraphNode } from './node.ts';

/** Which names a model has, and which bodies read which: what no single graph can tell. Made when first asked for. */
export class ModelNames {
  readonly #graph: GraphBody;
  #names: Set<string> | undefined;
  readonly #counters = new Map<string, number>();
  #reads: Map<string, Set<GraphBody>> | undefined;

  constructor(graph: GraphBody) {
    this.#graph = graph;
  }

  /** Taken at once, so that several names can be asked for before they are used. */
  unique(prefix: string): string {
    this.#names ??= namesOf(this.#graph);
    let name = prefix;
    let count = this.#counters.get(prefix) ?? 0;
    while (name === '' || this.#names.has(name)) name = `${prefix}_${++count}`;
    this.#counters.set(prefix, count);
    this.#names.add(name);
    return name;
  }

  take(name: string): void {
    this.#names?.add(name);
  }

  /** Bodies that read the name or put it out, whatever it means there; perhaps some that no longer do. */
  bodiesReading(name: string): readonly GraphBody[] {
    this.#reads ??= readsOf(this.#graph);
    return [...(this.#reads.get(name) ?? [])];
  }

  readBy(graph: GraphBody, name: string): void {
    this.take(name);
    if (graph.owner !== undefined && this.#reads !== undefined) addRead(this.#reads, name, graph);
  }

  forgetReads(): void {
    this.#reads = undefined;
  }

  nodeAdded(node: GraphNode): void {
    this.take(node.name);
    for (const name of node.outputs) this.take(name);
    for (const name of node.inputs) this.readBy(node.graph, name);
    if (node.subgraphs.length > 0) this.bodiesChanged();
  }

  bodiesChanged(): void {
    for (const name of this.#names === undefined ? [] : namesOf(this.#graph)) this.take(name);
    this.forgetReads();
  }
}

function namesOf(main: GraphBody): Set<string> {
  const names = new Set<string>();
  for (const graph of graphsOf(main)) {
    for (const { name } of graph.inputs) names.add(name);
    for (const { name } of graph.outputs) names.add(name);
    for (const name of graph.initializers.keys()) names.add(name);
    for (const name of graph.sparseInitializers) names.add(name);
    for (const node of graph.nodes) {
      names.add(node.name);
      for (const name of node.outputs) names.add(name);
      // Dangling ones too: a new value of that name would tie them.
      for (const name of node.inputs) names.add(name);
    }
  }
  return names;
}

function readsOf(main: GraphBody): Map<string, Set<GraphBody>> {
  const reads = new Map<string, Set<GraphBody>>();
  for (const graph of graphsOf(main)) {
    if (graph.owner === undefined) continue;
    for (const { name } of graph.outputs) addRead(reads, name, graph);
    for (const node of graph.nodes) for (const name of node.inputs) addRead(reads, name, graph);
  }
  return reads;
}

function addRead(reads: Map<string, Set<GraphBody>>, name: string, graph: GraphBody): void {
  const graphs = reads.get(name);
  if (graphs === undefined) reads.set(name, new Set([graph]));
  else graphs.add(graph);
}

/** The graph and every body in it, outer ones first. */
export function* graphsOf(graph: GraphBody): Iterable<GraphBody> {
  yield graph;
  for (const node of graph.nodes) for (const body of node.subgraphs) yield* graphsOf(body);
}
