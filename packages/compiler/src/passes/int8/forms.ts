import type { Graph, Node } from '@flotilla/onnx';
import { tensorFromFloats } from '@flotilla/onnx';
import type { Uint8Range } from '@flotilla/quant';

/** The integers of activations. Int8 is uint8 shifted by 128: everything here counts in uint8, and shifts what it writes. */
export type ActivationType = 'uint8' | 'int8';

/** A value in uint8: `real = scale · (q − zeroPoint) + rest`. */
export interface Form extends Uint8Range {
  /** The uint8 value's name. */
  readonly q: string;
  /** What rounding the zero point to a whole step leaves over, in the unit of the value; a following bias takes it. */
  readonly rest: number;
  /** The node that makes q; what reads q comes after it. */
  readonly made: Node;
}

/** Emits QuantizeLinear, DequantizeLinear and their constants, each constant and each reading of a value once. */
export class Forms {
  private readonly graph: Graph;
  private readonly type: ActivationType;
  private readonly byValue = new Map<string, Form>();
  private readonly readings = new Map<string, string>();
  private readonly constants = new Map<string, string>();

  constructor(graph: Graph, type: ActivationType) {
    this.graph = graph;
    this.type = type;
  }

  get(value: string): Form | undefined {
    return this.byValue.get(value);
  }

  set(value: string, form: Form): void {
    this.byValue.set(value, form);
  }

  entries(): Iterable<[string, Form]> {
    return this.byValue;
  }

  /** Quantizes a float value behind the node that makes it, or at the head of the graph. */
  quantize(value: string, range: Uint8Range, name = value): Form {
    const q = this.graph.uniqueName(`${name}_q`);
    const made = this.graph.addNode(
      { opType: 'QuantizeLinear', inputs: [value, this.scale(range.scale), this.zero(range.zeroPoint)], outputs: [q] },
      { before: this.after(this.graph.producer(value)) },
    );
    return { ...range, q, rest: 0, made };
  }

  /** The float reading of a form. */
  read(form: Form): string {
    const key = `${form.q} ${form.scale} ${form.zeroPoint}`;
    const known = this.readings.get(key);
    if (known !== undefined) return known;
    const output = this.graph.uniqueName(`${form.q}_dq`);
    this.addReading(form, output);
    this.readings.set(key, output);
    return output;
  }

  /** A reading with a name of its own, for a graph output. */
  addReading(form: Form, output: string): void {
    this.graph.addNode(
      {
        opType: 'DequantizeLinear',
        inputs: [form.q, this.scale(form.scale), this.zero(form.zeroPoint)],
        outputs: [output],
      },
      { before: this.after(form.made) },
    );
  }

  /** A float32 scalar: 0-d, which QLinearMul insists on. */
  scale(value: number): string {
    return this.constant(`scale ${value}`, 'scale', () => tensorFromFloats([], Float32Array.of(value)));
  }

  /** An integer scalar, given in uint8. */
  zero(value: number): string {
    // −128 in two's complement: the highest bit turned over.
    const byte = this.type === 'int8' ? value ^ 0x80 : value;
    return this.constant(`zero ${value}`, 'zero', () => ({ dtype: this.type, dims: [], bytes: Uint8Array.of(byte) }));
  }

  after(node: Node | undefined): Node | undefined {
    const { nodes } = this.graph;
    return node === undefined ? nodes[0] : nodes[nodes.indexOf(node) + 1];
  }

  private constant(key: string, prefix: string, make: () => Parameters<Graph['addInitializer']>[1]): string {
    const known = this.constants.get(key);
    if (known !== undefined) return known;
    const name = this.graph.uniqueName(prefix);
    this.graph.addInitializer(name, make());
    this.constants.set(key, name);
    return name;
  }
}
