import { OnnxError } from './errors.ts';
import type { GraphBody } from './graph.ts';
import { describe, type GraphNode } from './node.ts';

/** Makes every reader of `from` read `to`. A graph output called `from` goes on to be called so: `to` takes its name, or an `Identity` carries it. */
export function replaceUses(graph: GraphBody, from: string, to: string): void {
  if (from === to) return;
  if (!graph.isOutput(from)) return redirect(graph, from, to);
  const producer = graph.producer(from);
  // The name goes to another value: what had it is called something else.
  const freed = graph.uniqueName(`${from}_before`);
  if (producer !== undefined) renameOutput(producer, from, freed);
  if (canTakeName(graph, to)) {
    redirect(graph, from, to);
    renameValue(graph, to, from);
    return;
  }
  redirect(graph, from, to);
  if (producer !== undefined || !graph.defines(from))
    graph.addNode({ opType: 'Identity', inputs: [to], outputs: [from] });
}

/** @throws {OnnxError} `onnx/bypass` */
export function bypass(graph: GraphBody, node: GraphNode): void {
  const [input, output] = onlyNames(node);
  if (!graph.isOutput(output)) {
    redirect(graph, output, input);
    graph.removeNode(node);
    return;
  }
  if (!canTakeName(graph, input))
    throw new OnnxError('onnx/bypass', `${describe(node)} joins "${input}" to the graph output "${output}"`, {
      where: describe(node),
    });
  graph.removeNode(node);
  renameValue(graph, input, output);
}

/** True where both names belong to others: the input cannot take the output's name. */
export function joinsInputToOutput(graph: GraphBody, node: GraphNode): boolean {
  const [input, output] = onlyNames(node);
  return graph.isOutput(output) && !canTakeName(graph, input);
}

function onlyNames(node: GraphNode): readonly [string, string] {
  const inputs = node.inputs.filter((name) => name !== '');
  const outputs = node.outputs.filter((name) => name !== '');
  const [input] = inputs;
  const [output] = outputs;
  if (input === undefined || output === undefined || inputs.length > 1 || outputs.length > 1)
    throw new OnnxError('onnx/bypass', `${describe(node)} has ${inputs.length} inputs and ${outputs.length} outputs`, {
      where: describe(node),
    });
  return [input, output];
}

/** Only a value that a node of this graph makes, and that is not itself an output, can be called otherwise. */
function canTakeName(graph: GraphBody, value: string): boolean {
  return graph.producer(value) !== undefined && !graph.isOutput(value);
}

/** Gives a node's value another name, everywhere. */
function renameValue(graph: GraphBody, from: string, to: string): void {
  const producer = graph.producer(from);
  if (producer !== undefined) renameOutput(producer, from, to);
  redirect(graph, from, to);
}

function renameOutput(node: GraphNode, from: string, to: string): void {
  for (const [i, name] of node.outputs.entries()) if (name === from) node.setOutput(i, to);
}

function redirect(graph: GraphBody, from: string, to: string): void {
  // Bodies first: once the name is gone here, theirs would seem to come from further out.
  for (const body of graph.model.names.bodiesReading(from)) {
    if (body === graph || !captures(body, from, graph)) continue;
    unshadow(body, to, graph);
    for (const node of body.index.readers(from)) renameInputs(node, from, to);
    // A body's outputs are told apart by their place: their names are free.
    if (body.isOutput(from))
      body.setOutputs(body.outputs.map((info) => (info.name === from ? { ...info, name: to } : info)));
  }
  for (const node of graph.index.readers(from)) renameInputs(node, from, to);
}

function renameInputs(node: GraphNode, from: string, to: string): void {
  for (const [i, name] of node.inputs.entries()) if (name === from) node.setInput(i, to);
}

/** True if the name, read in the body, means `graph`'s value. It need not be defined there any more. */
function captures(body: GraphBody, name: string, graph: GraphBody): boolean {
  for (let scope: GraphBody | undefined = body; scope !== undefined; scope = scope.owner?.graph) {
    if (scope === graph) return true;
    if (scope.defines(name) || scope.owner?.removed) return false;
  }
  return false;
}

/** Where a body between the reader and `graph` uses `name` for a value of its own, that value is renamed. */
function unshadow(body: GraphBody, name: string, graph: GraphBody): void {
  for (let scope: GraphBody | undefined = body; scope !== undefined && scope !== graph; scope = scope.owner?.graph)
    if (scope.defines(name)) renameOwn(scope, name, scope.uniqueName(name));
}

function renameOwn(body: GraphBody, from: string, to: string): void {
  const producer = body.producer(from);
  if (producer !== undefined) renameOutput(producer, from, to);
  body.setInputs(body.inputs.map((info) => (info.name === from ? { ...info, name: to } : info)));
  body.setOutputs(body.outputs.map((info) => (info.name === from ? { ...info, name: to } : info)));
  body.renameInitializer(from, to);
  redirect(body, from, to);
}

/** Drops what no output depends on, in bodies too; returns how many nodes went. */
export function removeDead(graph: GraphBody): number {
  let count = 0;
  const live = liveNodes(graph);
  for (const node of graph.nodes) {
    if (live.has(node)) for (const body of node.subgraphs) count += removeDead(body);
    else {
      graph.removeNode(node);
      count++;
    }
  }
  removeDeadInitializers(graph);
  return count;
}

function liveNodes(graph: GraphBody): ReadonlySet<GraphNode> {
  const live = new Set<GraphNode>();
  const wanted = graph.outputs.map(({ name }) => name);
  for (let name = wanted.pop(); name !== undefined; name = wanted.pop()) {
    const node = graph.producer(name);
    if (node === undefined || live.has(node)) continue;
    live.add(node);
    for (const input of node.inputs) wanted.push(input);
    for (const body of node.subgraphs) for (const captured of namesRead(body)) wanted.push(captured);
  }
  return live;
}

/** Every name that a body reads, bodies inside it included. Its own names among them do no harm. */
function namesRead(body: GraphBody): string[] {
  const names = body.outputs.map(({ name }) => name);
  for (const node of body.nodes) {
    for (const name of node.inputs) names.push(name);
    for (const inner of node.subgraphs) for (const name of namesRead(inner)) names.push(name);
  }
  return names;
}

function removeDeadInitializers(graph: GraphBody): void {
  const overridable = graph.model.irVersion >= 4;
  const dead = [...graph.initializers.keys()].filter(
    (name) => !graph.isOutput(name) && graph.consumers(name).length === 0 && !(overridable && graph.isInput(name)),
  );
  for (const name of dead) graph.removeInitializer(name);
  // Before IR version 4 an initializer was listed as an input only because it had to be.
  if (!overridable && dead.some((name) => graph.isInput(name))) {
    const gone = new Set(dead);
    graph.setInputs(graph.inputs.filter(({ name }) => !gone.has(name)));
  }
}
