import { OnnxError } from '../errors.ts';
import type { GraphBody } from '../graph.ts';
import { describe, type GraphNode } from '../node.ts';
import type { Dim } from '../types.ts';

/**
 * One name, one value: inputs, initializers and nodes' outputs, here and in the graphs around.
 * @see ONNX IR, "Names Within a Graph": from IR version 4 on an initializer may stand alone; with an input of its name it is that input's default
 * @throws {OnnxError} `onnx/duplicate`, `onnx/name`, `onnx/data-type`
 */
export function checkNames(graph: GraphBody): void {
  checkInputs(graph);
  const [repeated] = graph.repeatedInitializers;
  if (repeated !== undefined) throw duplicate(repeated, 'two initializers are');
  const made = new Set<string>();
  for (const node of graph.nodes) {
    if (node.opType === '')
      throw new OnnxError('onnx/name', `${describe(node)} has no operator`, { where: describe(node) });
    for (const name of node.outputs) if (name !== '') checkOutput(graph, node, name, made);
  }
}

function checkInputs(graph: GraphBody): void {
  const seen = new Set<string>();
  for (const { name, type } of graph.inputs) {
    checkText(name, `a graph input`);
    if (seen.has(name)) throw duplicate(name, 'two graph inputs are');
    seen.add(name);
    const tensor = graph.initializers.get(name);
    if (tensor === undefined || type === undefined) continue;
    if (tensor.dtype !== type.dtype || !fits(tensor.dims, type.dims))
      throw new OnnxError(
        'onnx/data-type',
        `initializer "${name}" is ${tensor.dtype} [${tensor.dims.join(', ')}], which its input is not`,
        { where: name },
      );
  }
}

function fits(dims: readonly number[], declared: readonly Dim[] | undefined): boolean {
  if (declared === undefined) return true;
  return (
    dims.length === declared.length && dims.every((dim, i) => typeof declared[i] !== 'number' || declared[i] === dim)
  );
}

function checkOutput(graph: GraphBody, node: GraphNode, name: string, made: Set<string>): void {
  checkText(name, describe(node));
  if (made.has(name)) throw duplicate(name, `${describe(node)} and a node before it make`);
  made.add(name);
  if (graph.isInput(name) || graph.initializers.has(name) || graph.sparseInitializers.has(name))
    throw duplicate(name, `${describe(node)} and an input or initializer are`);
  if (graph.owner?.graph.definer(name) !== undefined)
    throw duplicate(name, `${describe(node)}, in a body, and a value outside are`);
}

/** A name that was not UTF-8 came out of the decoder with U+FFFD in it: two such names could be one. */
function checkText(name: string, what: string): void {
  if (name.includes('\uFFFD'))
    throw new OnnxError('onnx/name', `${what} has a name that is not UTF-8`, { where: name });
}

function duplicate(name: string, who: string): OnnxError {
  return new OnnxError('onnx/duplicate', `${who} called "${name}"`, { where: name });
}
