import { type Graph, inferTypes, type Model, type Node, tensorFromFloats } from '@flotilla/onnx';

/** A value in the middle of a model that can be fetched. */
export interface Exposed {
  /** The same for a value of the same name in the same body of another model. */
  readonly key: string;
  readonly value: string;
  /** What the value is called where it leaves the model. */
  readonly output: string;
  readonly node: Node;
}

/**
 * Makes every value that a node gives an output of the model, those in the branches of `If` too: the branch that is not
 * taken gives nothing (an empty tensor). The model is edited. Values in bodies of Loop and Scan, one for each turn, stay inside.
 * Types are the engine's to tell: what comes out as no float32 tensor is to be passed over.
 */
export function exposeValues(model: Model): readonly Exposed[] {
  const { graph } = model;
  const types = inferTypes(graph);
  const isFloat = (value: string) => types.get(value)?.dtype === 'float32';
  const exposed: Exposed[] = [];
  for (const node of Array.from(graph.nodes)) {
    if (isConstant(node)) continue;
    const outputs = node.outputs.filter((value) => value !== '');
    // What its branches do comes before what an If gives.
    if (isIf(node)) exposed.push(...exposeBranches(node, nodeKey(node), isFloat));
    for (const value of outputs) exposed.push({ key: value, value, output: value, node });
  }
  const names = new Set(exposed.map(({ output }) => output));
  const extra = [...names].filter((name) => !graph.isOutput(name)).map((name) => ({ name, type: undefined }));
  graph.setOutputs([...graph.outputs, ...extra]);
  return exposed;
}

/** Makes the branches' float values outputs of the `If`, in the graph that holds it. */
function exposeBranches(node: Node, path: string, isFloat: (value: string) => boolean): Exposed[] {
  const found: Exposed[] = [];
  for (const [index, body] of node.subgraphs.entries()) {
    const prefix = `${path}#${index}/`;
    const inner: Exposed[] = [];
    for (const one of Array.from(body.nodes)) {
      if (isConstant(one)) continue;
      const values = one.outputs.filter((value) => value !== '' && isFloat(value));
      if (isIf(one)) inner.push(...exposeBranches(one, `${prefix}${nodeKey(one)}`, isFloat));
      for (const value of values) inner.push({ key: `${prefix}${value}`, value, output: value, node: one });
    }
    for (const one of inner) found.push({ ...one, output: handOut(node, body, one.output) });
  }
  return found;
}

/** Adds one output to the `If`: the body's value, and an empty tensor from the other branch. */
function handOut(node: Node, body: Graph, value: string): string {
  const output = node.graph.uniqueName(`${value}_seen`);
  for (const branch of node.subgraphs) {
    const name = branch === body ? carried(branch, value) : nothing(branch);
    branch.setOutputs([...branch.outputs, { name, type: undefined }]);
  }
  node.setOutput(node.outputs.length, output);
  return output;
}

/** A body gives each of its values once. */
function carried(body: Graph, value: string): string {
  if (!body.isOutput(value)) return value;
  const name = body.uniqueName(`${value}_copy`);
  body.addNode({ opType: 'Identity', inputs: [value], outputs: [name] });
  return name;
}

function nothing(body: Graph): string {
  const name = body.uniqueName('nothing');
  body.addNode({
    opType: 'Constant',
    inputs: [],
    outputs: [name],
    attributes: { value: { tensor: tensorFromFloats([0], []) } },
  });
  return name;
}

/** A weight, not a value that is computed. */
function isConstant(node: Node): boolean {
  return node.opType === 'Constant' && node.domain === '';
}

function isIf(node: Node): boolean {
  return node.opType === 'If' && node.domain === '';
}

/** A node's first output names it best: names of nodes are optional, and renamed by tools. */
function nodeKey(node: Node): string {
  return node.outputs[0] ?? node.name;
}
