import { floats, integers } from '../numbers.ts';
import type { DataType, Dim, Graph, Node, Tensor } from '../types.ts';

/** What is known of a value. `values`: the elements of a small integer tensor, which is how shapes are computed in a graph. */
export interface Fact {
  readonly dtype: DataType | undefined;
  readonly dims: readonly Dim[] | undefined;
  readonly values?: readonly Dim[] | undefined;
}

/** One operator's shape and type rule: facts of its outputs, in their order; what it cannot tell is left out or undefined. */
export type Rule = (op: Op) => readonly (Fact | undefined)[];

export type Rules = { readonly [opType: string]: Rule };

/** A node with what is known of its inputs. */
export class Op {
  readonly node: Node;
  /** Version of the node's own operator set. */
  readonly opset: number;
  /** Facts of a body's outputs, given those of its inputs. */
  readonly inferBody: (body: Graph, inputs: readonly (Fact | undefined)[]) => readonly (Fact | undefined)[];
  readonly #inputs: readonly (Fact | undefined)[];

  constructor(node: Node, opset: number, inputs: readonly (Fact | undefined)[], inferBody: Op['inferBody']) {
    this.node = node;
    this.opset = opset;
    this.#inputs = inputs;
    this.inferBody = inferBody;
  }

  input(index: number): Fact | undefined {
    return this.#inputs[index];
  }

  has(index: number): boolean {
    return (this.node.inputs[index] ?? '') !== '';
  }

  dtype(index: number): DataType | undefined {
    return this.#inputs[index]?.dtype;
  }

  dims(index: number): readonly Dim[] | undefined {
    return this.#inputs[index]?.dims;
  }

  /** Elements of a small integer input, some perhaps unknown. */
  values(index: number): readonly Dim[] | undefined {
    return this.#inputs[index]?.values;
  }

  /** The same where every element is a known number. */
  numbers(index: number): readonly number[] | undefined {
    const values = this.values(index);
    if (values === undefined) return undefined;
    const numbers = values.filter((value) => typeof value === 'number');
    return numbers.length === values.length ? numbers : undefined;
  }

  /** What newer operator sets take as an input and older ones had as an attribute. */
  intsAt(index: number, attribute: string): readonly number[] | undefined {
    if (this.has(index)) return this.numbers(index);
    return this.node.attributes.has(attribute) ? this.node.ints(attribute, []) : undefined;
  }

  constant(index: number): Tensor | undefined {
    const name = this.node.inputs[index] ?? '';
    return name === '' ? undefined : this.node.graph.constant(name);
  }
}

/** More elements are no shape; and lengths come from the file, so nothing is allocated by them beyond this. */
export const maxValues = 256;

export function factOf(tensor: Tensor): Fact {
  const { dtype, dims } = tensor;
  const count = dims.reduce((product, dim) => product * dim, 1);
  const small = (dtype === 'int64' || dtype === 'int32') && dims.length <= 1 && count <= maxValues;
  return { dtype, dims, values: small ? integers(tensor) : undefined };
}

/** A small constant's elements as floats. */
export function floatsOf(tensor: Tensor | undefined): readonly number[] | undefined {
  if (tensor === undefined || tensor.byteLength > maxValues * 8) return undefined;
  return tensor.dtype.startsWith('float') ? [...floats(tensor)] : undefined;
}

/** A rule for one output. */
export function single(rule: (op: Op) => Fact | undefined): Rule {
  return (op) => [rule(op)];
}

/** An axis counted from the front; undefined if there is no such one. */
export function axisOf(axis: number, rank: number): number | undefined {
  const from = axis < 0 ? axis + rank : axis;
  return from >= 0 && from < rank ? from : undefined;
}

export function unknowns(rank: number): Dim[] {
  return Array.from({ length: rank }, () => undefined);
}

export function product(dims: readonly Dim[]): number | undefined {
  let result = 1;
  for (const dim of dims) {
    if (typeof dim !== 'number') return undefined;
    result *= dim;
  }
  return result;
}

/** @see ONNX Broadcasting: aligned at the last axis; a length of 1 stretches */
export function broadcast(shapes: readonly (readonly Dim[] | undefined)[]): readonly Dim[] | undefined {
  let result: readonly Dim[] | undefined = [];
  for (const dims of shapes) {
    if (dims === undefined || result === undefined) return undefined;
    result = broadcastTwo(result, dims);
  }
  return result;
}

function broadcastTwo(a: readonly Dim[], b: readonly Dim[]): readonly Dim[] {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, i) => {
    const left = i < rank - a.length ? 1 : a[i - (rank - a.length)];
    const right = i < rank - b.length ? 1 : b[i - (rank - b.length)];
    if (left === 1) return right;
    if (right === 1 || left === right) return left;
    // A known length over 1 wins: the other is the same, or 1.
    if (typeof left === 'number') return typeof right === 'number' ? undefined : left;
    return typeof right === 'number' ? right : undefined;
  });
}
