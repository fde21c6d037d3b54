import type { GraphNode } from './node.ts';

/** Who makes and who reads each value of one graph, its bodies left out. Kept up to date edit by edit. */
export class ValueIndex {
  readonly #producers = new Map<string, GraphNode>();
  /** Most values have one reader: a set each would cost 200 bytes a value. */
  readonly #readers = new Map<string, GraphNode | Set<GraphNode>>();

  constructor(nodes: Iterable<GraphNode>) {
    for (const node of nodes) this.add(node);
  }

  producer(value: string): GraphNode | undefined {
    return this.#producers.get(value);
  }

  readers(value: string): readonly GraphNode[] {
    const readers = this.#readers.get(value);
    if (readers === undefined) return [];
    return readers instanceof Set ? [...readers] : [readers];
  }

  isRead(value: string): boolean {
    return this.#readers.has(value);
  }

  /** Every value that is read, empty names left out. */
  read(): Iterable<string> {
    return this.#readers.keys();
  }

  made(): Iterable<string> {
    return this.#producers.keys();
  }

  add(node: GraphNode): void {
    for (const output of node.outputs) this.addOutput(node, output);
    for (const input of node.inputs) this.addInput(node, input);
  }

  remove(node: GraphNode): void {
    for (const output of node.outputs) this.removeOutput(node, output);
    for (const input of node.inputs) this.removeInput(node, input);
  }

  addOutput(node: GraphNode, value: string): void {
    if (value !== '') this.#producers.set(value, node);
  }

  removeOutput(node: GraphNode, value: string): void {
    if (this.#producers.get(value) === node) this.#producers.delete(value);
  }

  addInput(node: GraphNode, value: string): void {
    if (value === '') return;
    const readers = this.#readers.get(value);
    if (readers === undefined) this.#readers.set(value, node);
    else if (readers instanceof Set) readers.add(node);
    else if (readers !== node) this.#readers.set(value, new Set([readers, node]));
  }

  removeInput(node: GraphNode, value: string): void {
    const readers = this.#readers.get(value);
    if (readers === node) this.#readers.delete(value);
    else if (readers instanceof Set && readers.delete(node) && readers.size === 0) this.#readers.delete(value);
  }
}
