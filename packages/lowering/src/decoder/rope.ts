import { floats, type Graph, type Node, type Tensor } from '@flotilla/onnx';
import { axesOf, constantInts, madeBy, otherInput } from './match.ts';

/** Rotary positions with tables that are constant: what GroupQueryAttention can compute itself. */
export interface Rope {
  /** What is turned, `[batch, heads, length, size]`. */
  readonly x: string;
  /** The tables' names, `[positions, size]`, both halves of a row equal. */
  readonly cos: string;
  readonly sin: string;
}

/**
 * `x · cos + half(x) · sin` with `half(x) = [−x₂, x₁]`, as exporters spell it, where cos and sin are rows of constant
 * tables that an int64 graph input picks (positions).
 * @see Su et al.: RoFormer (2021), eq. 34, in the layout of GPT-NeoX (halves, not pairs)
 */
export function matchRope(graph: Graph, value: string): Rope | undefined {
  const sum = madeBy(graph, value, 'Add');
  if (!sum) return undefined;
  for (const [plain = '', turned = ''] of [sum.inputs, sum.inputs.toReversed()]) {
    const found = matchHalves(graph, plain, turned);
    if (found) return found;
  }
  return undefined;
}

function matchHalves(graph: Graph, plain: string, turned: string): Rope | undefined {
  const [a, b] = [madeBy(graph, plain, 'Mul'), madeBy(graph, turned, 'Mul')];
  if (!a || !b) return undefined;
  for (const half of b.inputs) {
    const x = rotatedHalf(graph, half);
    const cos = x === undefined ? undefined : otherInput(a, x);
    const sin = otherInput(b, half);
    if (x === undefined || cos === undefined || sin === undefined) continue;
    const tables = [tableOf(graph, cos), tableOf(graph, sin)];
    if (tables[0] && tables[1]) return { x, cos: tables[0], sin: tables[1] };
  }
  return undefined;
}

/** `x` where the value is `[−x₂, x₁]` along the last axis. */
function rotatedHalf(graph: Graph, value: string): string | undefined {
  const concat = madeBy(graph, value, 'Concat');
  if (!concat || concat.inputs.length !== 2 || ![-1, 3].includes(concat.int('axis', 0))) return undefined;
  const neg = madeBy(graph, concat.inputs[0] ?? '', 'Neg');
  const second = neg && madeBy(graph, neg.inputs[0] ?? '', 'Slice');
  const first = madeBy(graph, concat.inputs[1] ?? '', 'Slice');
  if (!first || !second || first.inputs[0] !== second.inputs[0]) return undefined;
  if (constantInts(graph, first.inputs[1] ?? '')?.join() !== '0') return undefined;
  return [first, second].every(alongLast) && sameInts(graph, first.inputs[2], second.inputs[1])
    ? first.inputs[0]
    : undefined;
}

function alongLast(slice: Node): boolean {
  const axes = constantInts(slice.graph, slice.inputs[3] ?? '');
  const steps = slice.inputs[4] ? constantInts(slice.graph, slice.inputs[4]) : [1];
  return (axes?.join() === '3' || axes?.join() === '-1') && steps?.join() === '1';
}

/** The first part's end is the second's beginning: one value, or two equal constants. */
function sameInts(graph: Graph, a = '', b = ''): boolean {
  const [x, y] = [constantInts(graph, a), constantInts(graph, b)];
  return a === b || (x !== undefined && x.join() === y?.join());
}

/** The constant table whose rows the value is, with an axis for the heads put in. */
function tableOf(graph: Graph, value: string): string | undefined {
  const wide = madeBy(graph, value, 'Unsqueeze');
  if (!wide || axesOf(wide)?.join() !== '1') return undefined;
  const rows = madeBy(graph, wide.inputs[0] ?? '', 'Gather');
  const [table = '', positions = ''] = rows?.inputs ?? [];
  const tensor = graph.constant(table);
  if (rows?.int('axis', 0) !== 0 || tensor?.dims.length !== 2 || !graph.isInput(positions)) return undefined;
  return tensor.dtype === 'float32' && firstHalf(tensor) ? table : undefined;
}

/** `[positions, size / 2]` of a table whose halves are equal; undefined if they are not. */
export function firstHalf(tensor: Tensor): Float32Array | undefined {
  const [rows = 0, size = 0] = tensor.dims;
  const half = size / 2;
  if (!Number.isInteger(half)) return undefined;
  const all = floats(tensor);
  const kept = new Float32Array(rows * half);
  for (let r = 0; r < rows; r++)
    for (let i = 0; i < half; i++) {
      const value = all[r * size + i] ?? 0;
      if (value !== all[r * size + half + i]) return undefined;
      kept[r * half + i] = value;
    }
  return kept;
}
