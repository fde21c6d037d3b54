import { cloneModel, type Graph, type Model, type Node, tensorInfo } from '@flotilla/onnx';
import { type Exposed, exposeValues } from '../analyze/expose.ts';

/** A model each of whose nodes gets the reference's values, so that what it gives shows its own error alone. */
export interface GivenModel {
  readonly model: Model;
  /** Input of the model by the key of the value that it stands in for. */
  readonly inputs: ReadonlyMap<string, string>;
  /** By key. */
  readonly outputs: ReadonlyMap<string, string>;
}

/**
 * Cuts a model open at the named values: whoever reads one reads an input in its place, and the value itself becomes an
 * output. One run then gives the error of every stretch between two cuts, free of what came before.
 * @param keys values to cut at, as `exposeValues` names them
 * @param wanted the cuts whose outputs are wanted; what they do not need is left out
 */
export function cutAt(source: Model, keys: ReadonlySet<string>, wanted: ReadonlySet<string>): GivenModel {
  const model = cloneModel(source);
  const exposed = exposeValues(model).filter(({ key }) => keys.has(key));
  const inputs = new Map<string, string>();
  for (const one of exposed) {
    const input = model.graph.uniqueName(`${one.value}_given`);
    if (redirect(one.node.graph, one, input)) inputs.set(one.key, input);
  }
  const outputs = new Map(exposed.filter(({ key }) => wanted.has(key)).map(({ key, output }) => [key, output]));
  const { graph } = model;
  graph.setOutputs([...new Set(outputs.values())].map((name) => ({ name, type: undefined })));
  graph.setInputs([...graph.inputs, ...[...inputs.values()].map((name) => tensorInfo(name, 'float32', undefined))]);
  graph.removeDead();
  const used = [...inputs].filter(([, input]) => graph.consumers(input).length > 0);
  const unused = new Set([...inputs.values()].filter((input) => !used.some(([, name]) => name === input)));
  graph.setInputs(graph.inputs.filter(({ name }) => !unused.has(name)));
  return { model, inputs: new Map(used), outputs };
}

/** True if anything reads the value. */
function redirect(graph: Graph, { value, output }: Exposed, input: string): boolean {
  let found = false;
  for (const reader of Array.from(graph.consumers(value))) {
    if (isCopyOf(reader, value, output)) continue;
    for (const [index, name] of reader.inputs.entries()) {
      if (name !== value) continue;
      reader.setInput(index, input);
      found = true;
    }
  }
  return found;
}

/** The copy by which an exposed value leaves its branch must stay the value's own. */
function isCopyOf(reader: Node, value: string, output: string): boolean {
  return reader.opType === 'Identity' && output !== value && reader.graph.isOutput(reader.outputs[0] ?? '');
}
