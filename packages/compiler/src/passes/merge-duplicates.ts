import { createHash } from 'node:crypto';
import type { Graph, Node, Tensor } from '@flotilla/onnx';
import { z } from 'zod';
import { definePass } from '../pass.ts';
import { handOn } from './edit.ts';

/** Draw anew at every run, or stand for a place: two of them are not one. */
const unmergeable = new Set(
  [
    'RandomNormal',
    'RandomUniform',
    'RandomNormalLike',
    'RandomUniformLike',
    'Multinomial',
    'Bernoulli',
    'Dropout',
  ].concat(['Constant', 'If', 'Loop', 'Scan', 'SequenceMap']),
);

/**
 * Constants of equal type, shape and bytes become one, and so do nodes that compute the same of the same: exporters
 * write a shape or a position table once for each layer. Graph by graph; what bodies have in common stays.
 */
export const mergeDuplicates = definePass({
  name: 'merge-duplicates',
  stage: 'rewrite',
  options: z.strictObject({}),
  run(graph) {
    const graphs = new Set([graph, ...[...graph.walk()].map((node) => node.graph)]);
    for (const one of graphs) {
      mergeConstants(one);
      mergeNodes(one);
    }
    return graph;
  },
});

function mergeConstants(graph: Graph): void {
  const groups = new Map<string, string[]>();
  for (const { name, tensor } of constantsOf(graph)) {
    const key = `${tensor.dtype} ${tensor.dims.join()}`;
    groups.set(key, [...(groups.get(key) ?? []), name]);
  }
  for (const names of groups.values()) {
    // Bytes are read only where another tensor has the same shape.
    if (names.length < 2) continue;
    const first = new Map<string, string>();
    // Nearly all weights of one shape differ from the start.
    const heads = new Map(names.map((name) => [name, headOf(graph, name)]));
    const counts = new Map<string, number>();
    for (const head of heads.values()) counts.set(head, (counts.get(head) ?? 0) + 1);
    for (const name of names) {
      if (counts.get(heads.get(name) ?? '') === 1) continue;
      const digest = digestOf(graph.constant(name));
      const kept = first.get(digest);
      if (kept === undefined) first.set(digest, name);
      else graph.replaceUses(name, kept);
    }
  }
}

/** The first bytes. */
function headOf(graph: Graph, name: string): string {
  const tensor = graph.constant(name);
  return tensor ? Buffer.from(tensor.part(0, Math.min(64, tensor.byteLength))).toString('hex') : '';
}

/** In pieces: a weight need not be in memory for it. */
function digestOf(tensor: Tensor | undefined): string {
  const hash = createHash('sha256');
  const piece = 1 << 20;
  const length = tensor?.byteLength ?? 0;
  for (let at = 0; at < length; at += piece)
    hash.update(tensor?.part(at, Math.min(length, at + piece)) ?? new Uint8Array());
  return hash.digest('hex');
}

/** Those without a name of the graph's own: an output or an input keeps its name, and an input may be fed otherwise. */
function* constantsOf(graph: Graph): Iterable<{ readonly name: string; readonly tensor: Tensor }> {
  const isOwn = (name: string) => graph.isOutput(name) || graph.isInput(name);
  for (const [name, tensor] of graph.initializers)
    if (!isOwn(name) && tensor.dtype !== 'string') yield { name, tensor };
  for (const node of graph.nodes) {
    const [name = ''] = node.outputs;
    const tensor = node.opType === 'Constant' ? graph.constant(name) : undefined;
    if (tensor && !isOwn(name) && tensor.dtype !== 'string') yield { name, tensor };
  }
}

function mergeNodes(graph: Graph): void {
  const first = new Map<string, Node>();
  for (const node of graph.nodes) {
    const key = keyOf(node);
    if (key === undefined) continue;
    const kept = first.get(key);
    if (kept === undefined) first.set(key, node);
    else handOn(node, kept.outputs[0] ?? '');
  }
}

function keyOf(node: Node): string | undefined {
  const { graph, domain, opType, inputs, outputs, attributes } = node;
  if (outputs.length !== 1 || graph.isOutput(outputs[0] ?? '') || unmergeable.has(opType)) return undefined;
  const options: string[] = [];
  for (const [name, { kind, value }] of attributes) {
    // Tensors and bodies are not compared.
    if (value === undefined || (typeof value === 'object' && !Array.isArray(value))) return undefined;
    options.push(JSON.stringify([name, kind, Array.isArray(value) ? value.join() : `${value}`]));
  }
  return JSON.stringify([domain, opType, inputs, options.toSorted()]);
}
