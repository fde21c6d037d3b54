import { onnx } from '../generated/onnx.js';
import { constantOf } from './constant.ts';
import { encodeGraph } from './encode-graph.ts';
import { bypass, joinsInputToOutput, removeDead, replaceUses } from './edits.ts';
import { OnnxError } from './errors.ts';
import type { ExternalFolder } from './external.ts';
import { Message } from './message.ts';
import type { OnnxModel } from './model.ts';
import { GraphNode } from './node.ts';
import type { Placing } from './placing.ts';
import { nodeProperties } from './properties.ts';
import type { Rope } from './rope.ts';
import { moveToFile } from './scratch.ts';
import { StoredGraph } from './stored-graph.ts';
import { MemoryTensor, type StoredTensor } from './tensor.ts';
import type { Graph, NewNode, NewTensor, Tensor, ValueInfo } from './types.ts';
import { ValueIndex } from './value-index.ts';

type ModelTensor = StoredTensor | MemoryTensor;

/** A graph by its place in its source, with its edits. */
export class GraphBody implements Graph {
  readonly model: OnnxModel;
  readonly owner: GraphNode | undefined;
  readonly message: Message;
  readonly name: string;
  edited: boolean;
  /** What the file has, in its order; shared by clones. */
  readonly #stored: StoredGraph;
  #first: GraphNode | undefined;
  #last: GraphNode | undefined;
  #nodes: readonly GraphNode[] | undefined;
  #inputs: readonly ValueInfo[];
  #outputs: readonly ValueInfo[];
  #inputNames: ReadonlySet<string> | undefined;
  #outputNames: ReadonlySet<string> | undefined;
  readonly #initializers: Map<string, ModelTensor>;
  #index: ValueIndex | undefined;
  /** Values that are made anew: what the file says of their types holds no longer. */
  readonly #remade: Set<string>;

  constructor(model: OnnxModel, owner: GraphNode | undefined, message: Message, from?: GraphBody) {
    this.model = model;
    this.owner = owner;
    this.message = message;
    this.edited = from?.edited ?? false;
    this.#stored = from === undefined ? new StoredGraph(message, model.folder) : from.#stored;
    this.name = this.#stored.name;
    this.#inputs = from?.inputs ?? this.#stored.inputs.map(({ info }) => info);
    this.#outputs = from?.outputs ?? this.#stored.outputs.map(({ info }) => info);
    this.#initializers = new Map(from?.initializers);
    if (from === undefined) for (const one of this.#stored.initializers) this.#initializers.set(one.name, one);
    this.#remade = new Set(from === undefined ? [] : from.#remade);
    if (from !== undefined)
      for (const node of from.nodes) this.#link(new GraphNode(this, node.message, node.slot, node));
    else for (const field of this.#stored.nodes) this.#link(new GraphNode(this, message.at(field), field.start));
  }

  get folder(): ExternalFolder {
    return this.model.folder;
  }

  get nodes(): readonly GraphNode[] {
    if (this.#nodes === undefined) {
      const nodes: GraphNode[] = [];
      for (let node = this.#first; node !== undefined; node = node.next) nodes.push(node);
      this.#nodes = nodes;
    }
    return this.#nodes;
  }

  get inputs(): readonly ValueInfo[] {
    return this.#inputs;
  }

  get outputs(): readonly ValueInfo[] {
    return this.#outputs;
  }

  get initializers(): ReadonlyMap<string, ModelTensor> {
    return this.#initializers;
  }

  /** Names of initializers that stand in the file more than once. */
  get repeatedInitializers(): readonly string[] {
    const names = this.#stored.initializers.map(({ name }) => name);
    return names.length === new Set(names).size ? [] : names.filter((name, i) => names.indexOf(name) !== i);
  }

  get sparseInitializers(): ReadonlySet<string> {
    return this.#stored.sparse;
  }

  /** What the file says of values in between; those made anew left out. */
  get valueInfos(): readonly ValueInfo[] {
    return this.#stored.valueInfos.map(({ info }) => info).filter(({ name }) => !this.#remade.has(name));
  }

  *walk(
    filter: { readonly opType?: string | undefined; readonly domain?: string | undefined } = {},
  ): Iterable<GraphNode> {
    // The list of this moment: nodes that the caller adds are not visited, those it removes neither.
    for (const node of this.nodes) {
      if (node.removed) continue;
      const { opType = node.opType, domain = node.domain } = filter;
      if (node.opType === opType && node.domain === domain) yield node;
      if (node.removed) continue;
      for (const body of node.subgraphs) yield* body.walk(filter);
    }
  }

  producer(value: string): GraphNode | undefined {
    return this.index.producer(value);
  }

  consumers(value: string): readonly GraphNode[] {
    const readers = new Set(this.index.readers(value));
    for (const body of this.model.names.bodiesReading(value)) {
      if (body.definer(value) !== this) continue;
      for (const node of body.index.readers(value)) readers.add(node);
      if (body.isOutput(value) && body.owner !== undefined) readers.add(body.owner);
    }
    return [...readers];
  }

  isOutput(value: string): boolean {
    this.#outputNames ??= new Set(this.#outputs.map(({ name }) => name));
    return this.#outputNames.has(value);
  }

  isInput(value: string): boolean {
    this.#inputNames ??= new Set(this.#inputs.map(({ name }) => name));
    return this.#inputNames.has(value);
  }

  constant(value: string): Tensor | undefined {
    return constantOf(this, value);
  }

  /** True if this graph itself gives the name its meaning. */
  defines(value: string): boolean {
    if (this.isInput(value) || this.#initializers.has(value)) return true;
    return this.index.producer(value) !== undefined || this.#stored.sparse.has(value);
  }

  /** The graph, this or an outer one, that gives the name its meaning here. */
  definer(value: string): GraphBody | undefined {
    for (let graph: GraphBody | undefined = this; graph !== undefined; graph = graph.owner?.graph)
      if (graph.defines(value)) return graph;
    return undefined;
  }

  uniqueName(prefix: string): string {
    return this.model.names.unique(prefix);
  }

  addNode(node: NewNode, { before }: { readonly before?: GraphNode | undefined } = {}): GraphNode {
    const name = node.name ?? this.uniqueName(node.opType);
    return this.addEncoded(onnx.NodeProto.encode(nodeProperties(node, name)).finish(), before);
  }

  /** A NodeProto, inserted before `before` or at the end. */
  addEncoded(bytes: Uint8Array, before: GraphNode | undefined): GraphNode {
    const added = new GraphNode(this, Message.of(bytes, this.message.depth + 1), undefined);
    this.#link(added, before);
    this.#index?.add(added);
    for (const output of added.outputs) this.#remake(output);
    this.model.names.nodeAdded(added);
    this.markEdited();
    return added;
  }

  addInitializer(name: string, tensor: NewTensor): Tensor {
    if (this.index.producer(name) !== undefined)
      throw new OnnxError('onnx/duplicate', `an initializer "${name}" would have the name of a node's output`, {
        where: name,
      });
    const { scratch } = this.model;
    const added = new MemoryTensor(name, scratch ? moveToFile(tensor, scratch) : tensor);
    this.#initializers.set(name, added);
    this.model.names.take(name);
    this.#remake(name);
    this.markEdited();
    return added;
  }

  removeNode(node: GraphNode): void {
    if (node.removed || node.graph !== this) return;
    if (node.previous === undefined) this.#first = node.next;
    else node.previous.next = node.next;
    if (node.next === undefined) this.#last = node.previous;
    else node.next.previous = node.previous;
    node.removed = true;
    this.#nodes = undefined;
    this.#index?.remove(node);
    this.markEdited();
  }

  removeInitializer(name: string): void {
    if (this.#initializers.delete(name)) this.markEdited();
  }

  renameInitializer(from: string, to: string): void {
    const tensor = this.#initializers.get(from);
    if (tensor === undefined) return;
    this.removeInitializer(from);
    this.addInitializer(to, { dtype: tensor.dtype, dims: tensor.dims, bytes: tensor.bytes() });
  }

  replaceUses(from: string, to: string): void {
    replaceUses(this, from, to);
  }

  bypass(node: GraphNode): void {
    bypass(this, node);
  }

  joinsInputToOutput(node: GraphNode): boolean {
    return joinsInputToOutput(this, node);
  }

  removeDead(): number {
    return removeDead(this);
  }

  setOutputs(outputs: readonly ValueInfo[]): void {
    this.#outputs = [...outputs];
    this.#outputNames = undefined;
    for (const { name } of outputs) this.model.names.take(name);
    this.model.names.forgetReads();
    this.markEdited();
  }

  setInputs(inputs: readonly ValueInfo[]): void {
    this.#inputs = [...inputs];
    this.#inputNames = undefined;
    for (const { name } of inputs) this.model.names.take(name);
    this.markEdited();
  }

  get index(): ValueIndex {
    this.#index ??= new ValueIndex(this.nodes);
    return this.#index;
  }

  inputChanged(node: GraphNode, before: string, now: string): void {
    if (!node.inputs.includes(before)) this.#index?.removeInput(node, before);
    this.#index?.addInput(node, now);
    this.model.names.readBy(this, now);
  }

  outputChanged(node: GraphNode, before: string, now: string): void {
    this.#index?.removeOutput(node, before);
    this.#index?.addOutput(node, now);
    this.#remake(now);
    this.model.names.take(now);
  }

  bodiesChanged(): void {
    this.model.names.bodiesChanged();
  }

  markEdited(): void {
    if (this.edited) return;
    this.edited = true;
    if (this.owner === undefined) this.model.edited = true;
    else this.owner.markEdited();
  }

  #remake(value: string): void {
    if (value !== '') this.#remade.add(value);
  }

  #link(node: GraphNode, before?: GraphNode): void {
    const previous = before === undefined ? this.#last : before.previous;
    node.previous = previous;
    node.next = before;
    if (previous === undefined) this.#first = node;
    else previous.next = node;
    if (before === undefined) this.#last = node;
    else before.previous = node;
    this.#nodes = undefined;
  }

  /** The message's content: what was not edited byte for byte, what is new in its order, or at the end where order means nothing. */
  rope(place: Placing | undefined): Rope {
    if (!this.edited && place === undefined) return this.message.rope();
    return encodeGraph(this, this.#stored, this.#remade, place);
  }
}
