import { floats, type NewTensor, type Node, type Tensor, tensorFromFloats, tensorFromInts } from '@flotilla/onnx';
import { z } from 'zod';
import { definePass } from '../pass.ts';
import { withConstant } from './edit.ts';

/** Weights above this stay as they are: they would be written anew. */
const MOST_BYTES = 256 * 2 ** 20;

/**
 * `Einsum` of a value and a constant becomes Transpose, Reshape and a MatMul with a matrix, where no letter is kept in
 * both: no conversion knows Einsum, and every one knows MatMul. Letters that are only summed over in one term, repeated
 * ones and ellipses stay.
 */
export const einsumToMatMul = definePass({
  name: 'einsum-to-matmul',
  stage: 'rewrite',
  options: z.strictObject({}),
  run(graph) {
    for (const node of Array.from(graph.walk({ opType: 'Einsum', domain: '' }))) {
      const found = node.inputs.length === 2 ? withConstant(node) : undefined;
      if (!found || found.constant.byteLength > MOST_BYTES) continue;
      const terms = termsOf(node.string('equation', ''), found.constantIndex);
      if (terms?.w.length === found.constant.dims.length) spellOut(node, found, terms);
    }
    return graph;
  },
});

/** Letters of each operand and of the result, in their order. */
interface Terms {
  readonly x: readonly string[];
  readonly w: readonly string[];
  readonly y: readonly string[];
}

function termsOf(equation: string, constantIndex: 0 | 1): Terms | undefined {
  const match = /^([a-z]+),([a-z]+)->([a-z]*)$/i.exec(equation.replaceAll(' ', ''));
  if (!match) return undefined;
  const [first = [], second = [], y = []] = match.slice(1).map((term) => Array.from(term));
  const [x, w] = constantIndex === 1 ? [first, second] : [second, first];
  const isPlain = [x, w, y].every((term) => new Set(term).size === term.length);
  const isProduct = [...x, ...w].every(
    (letter) => Number(x.includes(letter)) + Number(w.includes(letter)) + Number(y.includes(letter)) === 2,
  );
  return isPlain && isProduct && x.some((letter) => w.includes(letter)) ? { x, w, y } : undefined;
}

function spellOut(node: Node, { constant, other }: { constant: Tensor; other: string }, { x, w, y }: Terms): void {
  const { graph } = node;
  const [output = ''] = node.outputs;
  const summed = x.filter((letter) => w.includes(letter));
  const rows = x.filter((letter) => !w.includes(letter));
  const columns = w.filter((letter) => !x.includes(letter));
  const length = (letter: string): number => constant.dims[w.indexOf(letter)] ?? 1;
  const kept = rows.map(() => 0); // Reshape copies these lengths.
  const next = graph.nodes[graph.nodes.indexOf(node) + 1];
  graph.removeNode(node);

  let value = other;
  const add = (opType: string, input?: string, perm?: readonly number[]): void => {
    const inputs = input === undefined ? [value] : [value, input];
    const attributes = perm ? { perm: { ints: [...perm] } } : {};
    value = graph.uniqueName(`${output}_${opType}`);
    graph.addNode(
      { opType, name: opType === 'MatMul' ? node.name : '', inputs, outputs: [value], attributes },
      { before: next },
    );
  };
  const order = (from: readonly string[], to: readonly string[]): void => {
    if (from.join() !== to.join())
      add(
        'Transpose',
        undefined,
        to.map((letter) => from.indexOf(letter)),
      );
  };
  const shape = (dims: readonly number[]): void => {
    const name = graph.uniqueName(`${output}_shape`);
    graph.addInitializer(name, tensorFromInts('int64', [dims.length], dims));
    add('Reshape', name);
  };
  order(x, [...rows, ...summed]);
  if (summed.length > 1) shape([...kept, product(summed.map(length))]);
  const matrix = graph.uniqueName(`${output}_weight`);
  graph.addInitializer(
    matrix,
    matrixOf(
      constant,
      [...summed, ...columns].map((letter) => w.indexOf(letter)),
      summed.length,
    ),
  );
  add('MatMul', matrix);
  if (columns.length !== 1) shape([...kept, ...columns.map(length)]);
  order([...rows, ...columns], y);
  graph.addNode({ opType: 'Identity', inputs: [value], outputs: [output] }, { before: next });
}

/** The constant with its axes in another order, the first `summed` of them its rows. */
function matrixOf(constant: Tensor, perm: readonly number[], summed: number): NewTensor {
  const { dims } = constant;
  const from = floats(constant);
  const steps = dims.map((_, axis) => product(dims.slice(axis + 1)));
  const lengths = perm.map((axis) => dims[axis] ?? 1);
  const to = new Float32Array(from.length);
  const at = lengths.map(() => 0);
  for (let i = 0; i < to.length; i++) {
    to[i] = from[at.reduce((sum, index, k) => sum + index * (steps[perm[k] ?? 0] ?? 1), 0)] ?? 0;
    for (let k = at.length - 1; k >= 0; k--) {
      at[k] = (at[k] ?? 0) + 1;
      if ((at[k] ?? 0) < (lengths[k] ?? 1)) break;
      at[k] = 0;
    }
  }
  return tensorFromFloats([product(lengths.slice(0, summed)), product(lengths.slice(summed))], to);
}

const product = (numbers: readonly number[]): number => numbers.reduce((all, number) => all * number, 1);
