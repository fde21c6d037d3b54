import { floats, type Graph, integers, type Node } from '@flotilla/onnx';
import { values } from './quantized-constant.ts';

/** What a chain of nodes over constants comes to. */
export interface ConstantValue {
  readonly dims: readonly number[];
  readonly data: Float32Array;
}

/**
 * The value that a chain of lookups, products, sums and reshapes makes of constants: what the compiler writes for a
 * 4-bit table format. Each step is rounded to float32, as ONNX Runtime computes it.
 * @returns undefined where something is not constant, or not of this kind
 */
export function evaluateConstant(graph: Graph, value: string): ConstantValue | undefined {
  const tensor = graph.constant(value);
  if (tensor?.dtype === 'float32') return { dims: tensor.dims, data: floats(tensor) };
  const node = graph.producer(value);
  if (!node || node.domain !== '') return undefined;
  switch (node.opType) {
    case 'Gather':
      return lookUp(node);
    case 'Mul':
    case 'Add':
      return combine(node);
    case 'Reshape':
    case 'Transpose':
    case 'Slice':
      return rearrange(node);
    default:
      return undefined;
  }
}

/** A table with one axis, looked up by constants that a Cast widens. */
function lookUp({ graph, inputs }: Node): ConstantValue | undefined {
  const table = graph.constant(inputs[0] ?? '');
  const cast = graph.producer(inputs[1] ?? '');
  const codes = cast?.opType === 'Cast' ? graph.constant(cast.inputs[0] ?? '') : undefined;
  if (table?.dtype !== 'float32' || table.dims.length !== 1) return undefined;
  if (codes?.dtype !== 'uint4' && codes?.dtype !== 'uint8') return undefined;
  const levels = floats(table);
  const data = Float32Array.from(values(codes), (code) => levels[code] ?? Number.NaN);
  return { dims: codes.dims, data };
}

/** Two values of one shape; or `[rows, columns]` with a column `[rows, 1]` or a scalar. */
function combine({ graph, inputs, opType }: Node): ConstantValue | undefined {
  const [a, b] = [0, 1].map((index) => evaluateConstant(graph, inputs[index] ?? ''));
  if (!a || !b) return undefined;
  const columns = a.dims[1] ?? 1;
  const same = a.dims.join() === b.dims.join();
  const column = a.dims.length === 2 && b.dims.join() === `${a.dims[0]},1`;
  if (!same && !column && b.data.length !== 1) return undefined;
  const at = (i: number) => (same ? i : column ? Math.floor(i / columns) : 0);
  const data = a.data.map((x, i) => (opType === 'Mul' ? x * (b.data[at(i)] ?? 0) : x + (b.data[at(i)] ?? 0)));
  return { dims: a.dims, data };
}

function rearrange({ graph, inputs, opType }: Node): ConstantValue | undefined {
  const x = evaluateConstant(graph, inputs[0] ?? '');
  if (!x) return undefined;
  if (opType === 'Transpose') return transposed(x);
  const [, ...rest] = inputs.map((name) => graph.constant(name));
  const [first, end] = rest.map((tensor) => (tensor ? integers(tensor) : undefined));
  if (!first) return undefined;
  if (opType === 'Reshape') {
    const dims = Array.from(first, Number);
    return dims.reduce((all, dim) => all * dim, 1) === x.data.length ? { dims, data: x.data } : undefined;
  }
  const [from, to] = [Number(first[0]), Number(end?.[0])];
  const [rows = 0, ...inner] = x.dims;
  const width = inner.reduce((all, dim) => all * dim, 1);
  if (inputs.length !== 3 || first.length !== 1 || from !== 0 || to < 0 || to > rows) return undefined;
  return { dims: [to, ...inner], data: x.data.slice(0, to * width) };
}

/** Of a matrix; the compiler writes no other. */
function transposed({ dims, data }: ConstantValue): ConstantValue | undefined {
  const [rows = 0, columns = 0] = dims;
  if (dims.length !== 2) return undefined;
  const turned = new Float32Array(data.length);
  for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) turned[c * rows + r] = data[r * columns + c] ?? 0;
  return { dims: [columns, rows], data: turned };
}
