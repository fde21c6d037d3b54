import { onnx } from '../generated/onnx.js';
import type { GraphBody } from './graph.ts';
import type { GraphNode } from './node.ts';
import { type Placing, placed } from './placing.ts';
import { valueInfoProperties } from './properties.ts';
import { Rope } from './rope.ts';
import { INITIALIZER, INPUT, NODE, OUTPUT, type StoredGraph, type StoredInfo, VALUE_INFO } from './stored-graph.ts';
import type { ValueInfo } from './types.ts';
import { type Field, WIRE_BYTES } from './wire.ts';

/**
 * An edited graph's message. Its fields are gone through as they lie: what was not edited is copied, what was is written
 * in its place, what is gone is left out. New nodes go where they stand among the old ones; all else that is new goes to
 * the end, where order means nothing.
 */
export function encodeGraph(
  graph: GraphBody,
  stored: StoredGraph,
  remade: ReadonlySet<string>,
  place: Placing | undefined,
): Rope {
  const rope = new Rope();
  const nodes = new NodeQueue(graph.nodes, place);
  const tensors = stored.initializers.values();
  const infos = stored.valueInfos.values();
  const written = new Set<string>();
  const sameInputs = isSame(graph.inputs, stored.inputs);
  const sameOutputs = isSame(graph.outputs, stored.outputs);

  const addTensor = (field: Field) => {
    const tensor = tensors.next().value;
    if (tensor === undefined || graph.initializers.get(tensor.name) !== tensor) return;
    written.add(tensor.name);
    const content = place?.(tensor, true);
    if (content === undefined) copy(rope, graph, field);
    else rope.addField(INITIALIZER, content);
  };

  for (const field of graph.message.fields()) {
    const { number } = field;
    if (field.wire !== WIRE_BYTES) copy(rope, graph, field);
    else if (number === NODE) nodes.addAt(field, rope, graph);
    else if (number === INITIALIZER) addTensor(field);
    else if (number === VALUE_INFO && remade.has(infos.next().value?.info.name ?? '')) continue;
    else if (number === INPUT && !sameInputs) continue;
    else if (number === OUTPUT && !sameOutputs) continue;
    else copy(rope, graph, field);
  }
  nodes.addRest(rope);
  for (const [name, tensor] of graph.initializers)
    if (!written.has(name)) rope.addField(INITIALIZER, placed(tensor, place, true));
  if (!sameInputs) addInfos(rope, graph, INPUT, graph.inputs, stored.inputs);
  if (!sameOutputs) addInfos(rope, graph, OUTPUT, graph.outputs, stored.outputs);
  return rope;
}

/** The nodes that are left to write. Old ones keep their order, so both lists are gone through once. */
class NodeQueue {
  readonly #nodes: readonly GraphNode[];
  readonly #place: Placing | undefined;
  #next = 0;

  constructor(nodes: readonly GraphNode[], place: Placing | undefined) {
    this.#nodes = nodes;
    this.#place = place;
  }

  /** At an old node's field: the new ones that stand before it, and itself, unless it was removed. */
  addAt(field: Field, rope: Rope, graph: GraphBody): void {
    let node = this.#nodes[this.#next];
    for (; node !== undefined && node.slot === undefined; node = this.#nodes[this.#next]) this.#add(node, rope);
    if (node?.slot !== field.start) return;
    if (node.edited || this.#place !== undefined) this.#add(node, rope);
    else {
      copy(rope, graph, field);
      this.#next++;
    }
  }

  addRest(rope: Rope): void {
    for (const node of this.#nodes.slice(this.#next)) this.#add(node, rope);
  }

  #add(node: GraphNode, rope: Rope): void {
    rope.addField(NODE, node.rope(this.#place));
    this.#next++;
  }
}

function copy(rope: Rope, graph: GraphBody, { start, end }: Field): void {
  rope.addRange(graph.message.source, start, end);
}

function isSame(infos: readonly ValueInfo[], stored: readonly StoredInfo[]): boolean {
  return infos.length === stored.length && infos.every((info, i) => info === stored[i]?.info);
}

function addInfos(
  rope: Rope,
  graph: GraphBody,
  number: number,
  infos: readonly ValueInfo[],
  stored: readonly StoredInfo[],
): void {
  const fields = new Map(stored.map(({ info, field }) => [info, field]));
  for (const info of infos) {
    const field = fields.get(info);
    if (field !== undefined) copy(rope, graph, field);
    else rope.addField(number, new Rope().add(onnx.ValueInfoProto.encode(valueInfoProperties(info)).finish()));
  }
}
