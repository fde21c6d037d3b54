import { type Graph, inferTypes, type Node, tensorFromFloats, type ValueType } from '@flotilla/onnx';
import type { Choice } from '../lower.ts';
import { axesOf, madeBy, otherInput, scalar } from './match.ts';

/**
 * RMSNorm written out, `x · 1/√(mean(x²) + ε) · gain`, becomes `SimplifiedLayerNormalization`; where `x` is a sum that
 * is made for it, `SkipSimplifiedLayerNormalization` makes the sum too.
 * @see Zhang, Sennrich: Root Mean Square Layer Normalization (2019), eq. 4
 */
export function fuseRmsNorms(graph: Graph): readonly Choice[] {
  const choices: Choice[] = [];
  const means = graph.nodes.filter(({ opType, domain }) => opType === 'ReduceMean' && domain === '');
  const types = means.length > 0 ? inferTypes(graph) : new Map<string, ValueType>();
  const ones = new Map<number, string>();
  for (const mean of means) {
    const found = rmsNorm(mean);
    const width = found && types.get(found.x)?.dims?.at(-1);
    if (!found || (found.gain === undefined && typeof width !== 'number')) continue;
    const gain = found.gain ?? onesOf(graph, Number(width), ones);
    const kernel = replace(found, gain);
    choices.push({ node: found.last.name, op: 'ReduceMean', kernel, reason: 'RMSNorm in one operator' });
  }
  return choices;
}

interface RmsNorm {
  readonly x: string;
  /** Undefined where there is none. */
  readonly gain: string | undefined;
  readonly epsilon: number;
  /** Its output is the norm's: the multiplication by the gain, or by the inverse root. */
  readonly last: Node;
}

function rmsNorm(mean: Node): RmsNorm | undefined {
  const { graph } = mean;
  const axes = axesOf(mean);
  if (axes?.join() !== '-1' || mean.int('keepdims', 1) !== 1) return undefined;
  const x = squared(graph, mean.inputs[0] ?? '');
  const add = x === undefined ? undefined : soleReader(graph, mean.outputs[0] ?? '', 'Add');
  if (x === undefined || !add) return undefined;
  const epsilon = scalar(graph, otherInput(add, mean.outputs[0] ?? '') ?? '');
  const root = soleReader(graph, add.outputs[0] ?? '', 'Sqrt');
  if (epsilon === undefined || !root) return undefined;
  const scaled = divided(graph, x, root.outputs[0] ?? '');
  if (!scaled) return undefined;
  const last = soleReader(graph, scaled.outputs[0] ?? '', 'Mul');
  const gain = last && otherInput(last, scaled.outputs[0] ?? '');
  if (gain && graph.constant(gain)?.dims.length === 1) return { x, gain, epsilon, last };
  // Clean-up may have put the gain into the products that follow.
  return { x, gain: undefined, epsilon, last: scaled };
}

/** `x` of `x²`, spelt as a power or as a product. */
function squared(graph: Graph, value: string): string | undefined {
  const pow = madeBy(graph, value, 'Pow');
  if (pow) return scalar(graph, pow.inputs[1] ?? '') === 2 ? pow.inputs[0] : undefined;
  const mul = madeBy(graph, value, 'Mul');
  return mul && mul.inputs[0] === mul.inputs[1] ? mul.inputs[0] : undefined;
}

/** `x / root` or `x · (1 / root)`. */
function divided(graph: Graph, x: string, root: string): Node | undefined {
  const reader = soleReader(graph, root, 'Div') ?? soleReader(graph, root, 'Reciprocal');
  if (reader?.opType === 'Div' && reader.inputs[0] === x && reader.inputs[1] === root) return reader;
  if (reader?.opType === 'Div' && scalar(graph, reader.inputs[0] ?? '') !== 1) return undefined;
  const mul = reader && soleReader(graph, reader.outputs[0] ?? '', 'Mul');
  return mul && otherInput(mul, reader.outputs[0] ?? '') === x ? mul : undefined;
}

function soleReader(graph: Graph, value: string, opType: string): Node | undefined {
  const readers = graph.consumers(value);
  const [reader] = readers;
  const fits = readers.length === 1 && !graph.isOutput(value) && reader?.opType === opType && reader.domain === '';
  return fits ? reader : undefined;
}

/** The kernels want a gain. */
function onesOf(graph: Graph, width: number, made: Map<number, string>): string {
  const name = made.get(width) ?? graph.uniqueName(`ones_${width}`);
  if (!made.has(width)) graph.addInitializer(name, tensorFromFloats([width], new Float32Array(width).fill(1)));
  made.set(width, name);
  return name;
}

function replace({ x, epsilon, last }: RmsNorm, gain: string): string {
  const { graph } = last;
  const [output = ''] = last.outputs;
  const sum = madeBy(graph, x, 'Add');
  const attributes = { epsilon: { float: epsilon } };
  const name = last.name;
  if (sum && sum.graph === graph && !graph.isOutput(x) && isResidual(graph, sum)) {
    graph.removeNode(last);
    const node = { opType: 'SkipSimplifiedLayerNormalization', domain: 'com.microsoft', name, attributes };
    const next = graph.nodes[graph.nodes.indexOf(sum) + 1];
    graph.removeNode(sum);
    graph.addNode({ ...node, inputs: [...sum.inputs, gain], outputs: [output, '', '', x] }, { before: next });
    return node.opType;
  }
  const node = { opType: 'SimplifiedLayerNormalization', name, inputs: [x, gain], outputs: [output] };
  const next = graph.nodes[graph.nodes.indexOf(last) + 1];
  graph.removeNode(last);
  graph.addNode({ ...node, attributes: { ...attributes, axis: { int: -1 } } }, { before: next });
  return node.opType;
}

/** A sum of two computed tensors; a bias, which is broadcast, is none. */
function isResidual(graph: Graph, sum: Node): boolean {
  return sum.inputs.every((input) => graph.constant(input) === undefined);
}
