import type { Graph, Node } from '@flotilla/onnx';

/** What only changes how a value is held. */
const HOLDS_OTHERWISE: ReadonlySet<string> = new Set(['QuantizeLinear', 'DequantizeLinear', 'Identity', 'Cast']);
/** What the range of a quantization may have taken over, so that one graph has it and the other has not. */
const MAY_BE_ABSORBED: ReadonlySet<string> = new Set(['Relu', 'Clip']);
/** Kernels for quantized weights, by the operator that they stand for. */
const STANDS_FOR: { readonly [opType: string]: string } = {
  MatMulNBits: 'MatMul',
  MatMulBnb4: 'MatMul',
  QLinearMatMul: 'MatMul',
  QLinearConv: 'Conv',
  GatherBlockQuantized: 'Gather',
};
const COMMUTATIVE: ReadonlySet<string> = new Set(['Add', 'Mul']);

/**
 * Values of a graph by what they are, not by what they are called: each with its counterpart in another graph. Two
 * nodes are one another's counterparts where they do the same with counterparts, quantization aside; of several that do
 * (three projections of one value) those whose weights have one shape, and then those in the same place of the order.
 * Begins at inputs of one name; where the graphs differ it stops, and goes on behind the next value of one name that
 * the same operator gives. Bodies of If, Loop and Scan are left out.
 */
export function alignValues(graph: Graph, other: Graph): ReadonlyMap<string, string> {
  const [own, its] = [new Wiring(graph), new Wiring(other)];
  const pairs = new Map<string, string>();
  for (const { name } of graph.inputs) if (other.isInput(name)) pairs.set(name, name);
  const readers = its.readers();
  const taken = new Set<Node>();
  const counterpartOf = (node: Node): Node | undefined => {
    const wanted = own.read(node).map((value) => pairs.get(value));
    const [first] = wanted;
    if (first === undefined || wanted.includes(undefined)) return undefined;
    const places = placesOf(node, wanted as readonly string[]);
    const shape = own.weightShape(node);
    const found = (readers.get(first) ?? []).filter((one) => {
      if (taken.has(one) || kindOf(one) !== kindOf(node) || placesOf(one, its.read(one)) !== places) return false;
      const itsShape = its.weightShape(one);
      return shape === undefined || itsShape === undefined || shape === itsShape;
    });
    return found.find((one) => one.outputs[0] === node.outputs[0]) ?? found[0];
  };
  for (const node of graph.nodes) {
    if (HOLDS_OTHERWISE.has(node.opType)) continue;
    const counterpart = counterpartOf(node) ?? namesake(node, other, taken);
    if (counterpart === undefined) continue;
    taken.add(counterpart);
    for (const [index, output] of node.outputs.entries()) {
      const twin = counterpart.outputs[index] ?? '';
      if (output !== '' && twin !== '') pairs.set(output, twin);
    }
  }
  return pairs;
}

/** Who reads what, with quantization and constants looked through. Nodes stand in an order in which values exist. */
class Wiring {
  private readonly graph: Graph;
  /** Made of constants alone. */
  private readonly fixed: Set<string>;
  /** Values as they were before they were held otherwise or cut off. */
  private readonly before = new Map<string, string>();

  constructor(graph: Graph) {
    this.graph = graph;
    this.fixed = new Set(graph.initializers.keys());
    for (const { opType, inputs, outputs, subgraphs } of graph.nodes) {
      const given = inputs.filter((value) => value !== '');
      const isFixed = given.length === 0 ? opType === 'Constant' : given.every((value) => this.fixed.has(value));
      if (isFixed && subgraphs.length === 0) for (const output of outputs) this.fixed.add(output);
      const [input = '', output = ''] = [inputs[0], outputs[0]];
      if (HOLDS_OTHERWISE.has(opType) || MAY_BE_ABSORBED.has(opType)) this.before.set(output, this.bare(input));
    }
  }

  /** What a node reads that is not made of constants. */
  read({ inputs }: Node): readonly string[] {
    return inputs.filter((value) => value !== '' && !this.fixed.has(value)).map((value) => this.bare(value));
  }

  readers(): ReadonlyMap<string, readonly Node[]> {
    const readers = new Map<string, Node[]>();
    for (const node of this.graph.nodes) {
      if (HOLDS_OTHERWISE.has(node.opType)) continue;
      for (const value of new Set(this.read(node))) {
        const known = readers.get(value);
        if (known) known.push(node);
        else readers.set(value, [node]);
      }
    }
    return readers;
  }

  /** Undefined where there is none, or it is packed. */
  weightShape({ opType, inputs }: Node): string | undefined {
    if (STANDS_FOR[opType] !== undefined) return undefined;
    const weight = inputs.find((value) => this.fixed.has(value));
    if (weight === undefined) return undefined;
    const source = this.bare(weight);
    const tensor = this.graph.initializers.get(source) ?? this.graph.constant(source);
    return tensor && JSON.stringify(tensor.dims);
  }

  private bare(value: string): string {
    return this.before.get(value) ?? value;
  }
}

function namesake(node: Node, other: Graph, taken: ReadonlySet<Node>): Node | undefined {
  const found = other.producer(node.outputs[0] ?? '');
  return found !== undefined && kindOf(found) === kindOf(node) && !taken.has(found) ? found : undefined;
}

const kindOf = ({ domain, opType }: Node): string => STANDS_FOR[opType] ?? `${domain} ${opType}`.trim();

function placesOf({ opType }: Node, values: readonly string[]): string {
  return JSON.stringify(COMMUTATIVE.has(opType) ? values.toSorted() : values);
}
