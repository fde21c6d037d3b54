import type { Graph, Node } from '@flotilla/onnx';

/** Whether a list of a recipe means this node: by its name, or by the name of its first output, which is never shared. */
export function isNamed(names: readonly string[], node: Node): boolean {
  return (node.name !== '' && names.includes(node.name)) || names.includes(node.outputs[0] ?? '');
}

/** The name by which a recipe can mean this node alone. */
export function nodeKey(graph: Graph, node: Node): string {
  for (const other of graph.walk()) if (other !== node && other.name === node.name) return node.outputs[0] ?? '';
  return node.name === '' ? (node.outputs[0] ?? '') : node.name;
}

/** What a report calls a node of the graph: its name, or its first output where it has none or shares it. */
export function nodeLabels(graph: Graph): (node: Node) => string {
  const seen = new Set<string>(['']);
  const repeated = new Set<string>(['']);
  for (const { name } of graph.walk()) (seen.has(name) ? repeated : seen).add(name);
  return ({ name, outputs }) => (repeated.has(name) ? (outputs[0] ?? name) : name);
}
