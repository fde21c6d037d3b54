import type { Graph, Node } from '@flotilla/onnx';
import { z } from 'zod';
import { definePass } from '../pass.ts';
import { handOn } from './edit.ts';
import { dataInputs, turn } from './layout/agnostic.ts';

/**
 * Takes out transpositions that cancel, as exports from NHWC frameworks are full of: a region of operators that do not
 * care for the order of axes, all of whose inputs come through `Transpose` by one permutation, computes before it
 * instead, where that leaves fewer of them. Two in a row become one.
 */
export const cancelTransposes = definePass({
  name: 'cancel-transposes',
  stage: 'rewrite',
  options: z.strictObject({}),
  run(graph) {
    // Every turn of the loop leaves a transposition fewer.
    for (let changed = true; changed; ) {
      changed = false;
      for (const node of Array.from(graph.walk({ opType: 'Transpose' })))
        if (isAlive(node) && node.attributes.has('perm'))
          changed = mergeWithNext(node) || takeOut(regionFrom(node)) || changed;
    }
    return graph;
  },
});

const permOf = (node: Node): readonly number[] => node.ints('perm', []);
const isAlive = (node: Node): boolean => node.graph.producer(node.outputs[0] ?? '') === node;
const isTranspose = (node: Node, perm: readonly number[]): boolean =>
  node.opType === 'Transpose' && node.domain === '' && permOf(node).join() === perm.join();

/** The permutation that takes `perm` back. */
function inverse(perm: readonly number[]): readonly number[] {
  return perm.map((_, axis) => perm.indexOf(axis));
}

function mergeWithNext(node: Node): boolean {
  const { graph } = node;
  const [output = ''] = node.outputs;
  const first = permOf(node);
  const next = graph.consumers(output).find((reader) => reader.opType === 'Transpose' && reader.graph === graph);
  const second = next && permOf(next);
  if (!next || second?.length !== first.length || isTranspose(next, inverse(first))) return false;
  // Worth it only where the first one goes: else both still run.
  if (graph.consumers(output).length > 1 || graph.isOutput(output)) return false;
  next.setAttribute('perm', { ints: second.map((axis) => first[axis] ?? 0) });
  next.setInput(0, node.inputs[0] ?? '');
  graph.removeNode(node);
  return true;
}

interface Region {
  readonly graph: Graph;
  readonly perm: readonly number[];
  /** Transpositions that lead in. */
  readonly sources: ReadonlySet<Node>;
  readonly nodes: ReadonlySet<Node>;
}

function regionFrom(start: Node): Region {
  const { graph } = start;
  const perm = permOf(start);
  const sources = new Set([start]);
  const nodes = new Set<Node>();
  const makes = (name: string): boolean => {
    const producer = graph.producer(name);
    return producer !== undefined && (nodes.has(producer) || isTranspose(producer, perm));
  };
  const fits = (node: Node): boolean =>
    node.graph === graph && !nodes.has(node) && dataInputs(node, perm.length)?.every(makes) === true;
  for (let grown = true; grown; ) {
    grown = false;
    for (const node of [...sources, ...nodes])
      for (const reader of graph.consumers(node.outputs[0] ?? '')) {
        if (!fits(reader)) continue;
        nodes.add(reader);
        for (const name of dataInputs(reader, perm.length) ?? []) {
          const producer = graph.producer(name);
          if (producer && !nodes.has(producer)) sources.add(producer);
        }
        grown = true;
      }
  }
  return { graph, perm, sources, nodes };
}

/** Rewrites the region where that leaves fewer transpositions. */
function takeOut(region: Region): boolean {
  const { graph, perm, sources, nodes } = region;
  const back = inverse(perm);
  const outside = (node: Node): readonly Node[] =>
    graph.consumers(node.outputs[0] ?? '').filter((reader) => !nodes.has(reader));
  const cancels = (reader: Node): boolean =>
    reader.graph === graph && isTranspose(reader, back) && !graph.isOutput(reader.outputs[0] ?? '');
  const isRead = (node: Node): boolean =>
    graph.isOutput(node.outputs[0] ?? '') || outside(node).some((reader) => !cancels(reader));

  const all = [...sources, ...nodes];
  const cancelled = all.flatMap((node) => outside(node).filter(cancels));
  const gone = [...sources].filter((node) => !isRead(node));
  const added = [...nodes].filter(isRead);
  if (cancelled.length + gone.length <= added.length) return false;

  // In the graph's order: a node's inputs are led elsewhere before it is.
  const turned = new Map([...sources].map((node) => [node.outputs[0] ?? '', node.inputs[0] ?? '']));
  for (const node of graph.nodes.filter((one) => nodes.has(one))) {
    const [output = ''] = node.outputs;
    const readOutside = added.includes(node);
    turn(node, perm);
    for (const [index, name] of node.inputs.entries()) node.setInput(index, turned.get(name) ?? name);
    const plain = graph.uniqueName(`${output}_plain`);
    const next = graph.nodes[graph.nodes.indexOf(node) + 1];
    node.setOutput(0, plain);
    turned.set(output, plain);
    if (readOutside)
      graph.addNode(
        { opType: 'Transpose', inputs: [plain], outputs: [output], attributes: { perm: { ints: perm } } },
        { before: next },
      );
  }
  for (const node of cancelled) handOn(node, turned.get(node.inputs[0] ?? '') ?? node.inputs[0] ?? '');
  for (const node of gone) graph.removeNode(node);
  return true;
}
