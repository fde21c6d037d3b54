import { floats, type Graph, integers, type Node } from '@flotilla/onnx';
import { floatConstant, soleReader } from '../passes/edit.ts';

/** `x / rms(x)`, times a gain per channel where there is one. */
export interface RmsNorm {
  readonly x: string;
  /** Nodes of the norm that read x. */
  readonly entries: readonly Node[];
  /** Where the gain's constant is read; undefined where there is none (folded into what follows). */
  readonly gain: { readonly node: Node; readonly input: number } | undefined;
  /** What readers get. */
  readonly output: string;
}

/** Every RMSNorm of the graph, spelt out in plain operators or as one node. */
export function rmsNorms(graph: Graph): RmsNorm[] {
  return graph.nodes.flatMap((node) => {
    const norm = fusedNorm(node) ?? plainNorm(graph, node);
    return norm ? [norm] : [];
  });
}

function fusedNorm(node: Node): RmsNorm | undefined {
  if (node.opType !== 'SimplifiedLayerNormalization' && node.opType !== 'RMSNormalization') return undefined;
  const [x = ''] = node.inputs;
  if (node.int('axis', -1) !== -1 || node.outputs.length > 1 || !floatConstant(node, 1)) return undefined;
  return { x, entries: [node], gain: { node, input: 1 }, output: node.outputs[0] ?? '' };
}

/** `Mul(x, 1 / √(mean(x²) + ε))` or `Div(x, √…)`, then perhaps `Mul` with a constant row. */
function plainNorm(graph: Graph, node: Node): RmsNorm | undefined {
  if (node.domain !== '') return undefined;
  const pairs =
    node.opType === 'Mul' ? [[0, 1] as const, [1, 0] as const] : node.opType === 'Div' ? [[0, 1] as const] : [];
  for (const [at, by] of pairs) {
    const [x = '', factor = ''] = [node.inputs[at], node.inputs[by]];
    const root = node.opType === 'Div' ? madeBy(graph, factor, 'Sqrt') : inverseRoot(graph, factor);
    const square = root && meanSquareOf(graph, root.inputs[0] ?? '', x);
    if (!square) continue;
    const [output = ''] = node.outputs;
    const reader = soleReader(graph, output);
    const input = reader?.opType === 'Mul' ? reader.inputs.findIndex((value) => value !== output) : -1;
    const isGain = reader !== undefined && input >= 0 && floatConstant(reader, input)?.dims.length === 1;
    const entries = [square, node];
    if (!isGain) return { x, entries, gain: undefined, output };
    return { x, entries, gain: { node: reader, input }, output: reader.outputs[0] ?? '' };
  }
  return undefined;
}

/** The Sqrt below `1 / √s`. */
function inverseRoot(graph: Graph, value: string): Node | undefined {
  const reciprocal = madeBy(graph, value, 'Reciprocal');
  if (reciprocal) return madeBy(graph, reciprocal.inputs[0] ?? '', 'Sqrt');
  const quotient = madeBy(graph, value, 'Div');
  const one = quotient && floatConstant(quotient, 0);
  if (!quotient || !one || floats(one).length !== 1 || floats(one)[0] !== 1) return undefined;
  return madeBy(graph, quotient.inputs[1] ?? '', 'Sqrt');
}

/** The node that squares x, where the value is `mean(x², last axis) + ε`. */
function meanSquareOf(graph: Graph, value: string, x: string): Node | undefined {
  const sum = madeBy(graph, value, 'Add');
  const index = sum?.inputs.findIndex((input) => graph.producer(input)?.opType === 'ReduceMean') ?? -1;
  const mean = sum && graph.producer(sum.inputs[index] ?? '');
  if (!mean || !floatConstant(sum, 1 - index) || mean.int('keepdims', 1) !== 1 || !overLastAxis(mean)) return undefined;
  const square = graph.producer(mean.inputs[0] ?? '');
  if (!square || square.inputs[0] !== x) return undefined;
  const exponent = floatConstant(square, 1);
  const isSquare =
    (square.opType === 'Mul' && square.inputs[1] === x) ||
    (square.opType === 'Pow' && exponent !== undefined && floats(exponent)[0] === 2);
  return isSquare ? square : undefined;
}

function overLastAxis(mean: Node): boolean {
  const tensor = mean.graph.constant(mean.inputs[1] ?? '');
  const axes = tensor ? Array.from(integers(tensor), Number) : mean.ints('axes', []);
  return axes.length === 1 && axes[0] === -1;
}

function madeBy(graph: Graph, value: string, opType: string): Node | undefined {
  const node = graph.producer(value);
  return node?.opType === opType && node.domain === '' ? node : undefined;
}
