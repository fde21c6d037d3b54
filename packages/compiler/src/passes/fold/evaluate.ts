import {
  type DataType,
  floats,
  integers,
  type NewTensor,
  type Node,
  type Tensor,
  tensorFromFloats,
  tensorFromInts,
} from '@flotilla/onnx';
import type { ValueType } from '@flotilla/onnx';
import { broadcastShape, broadcastIndex, sizeOf, stridesOf } from './layout.ts';

type Result = NewTensor | 'too-large' | undefined;

/** Bytes per element of the types that are folded; others stay as they are. */
const widths: { readonly [type in DataType]?: number } = { float32: 4, int64: 8, int32: 4, bool: 1 };
const casts = new Map<number, DataType>([
  [1, 'float32'],
  [6, 'int32'],
  [7, 'int64'],
  [9, 'bool'],
]);

/**
 * What a node gives for constant inputs, or undefined where this evaluator does not know the operator or the types.
 * @param first type of the first input, for `Shape`
 */
export function evaluate(
  node: Node,
  inputs: readonly (Tensor | undefined)[],
  first: ValueType | undefined,
  budgetBytes: number,
): Result {
  const [x, y] = inputs;
  if (node.opType === 'Shape') return shapeOf(node, first);
  if (!x || widths[x.dtype] === undefined) return undefined;
  const limit = (dims: readonly number[], dtype: DataType) => sizeOf(dims) * (widths[dtype] ?? 8) > budgetBytes;
  switch (node.opType) {
    case 'Cast': {
      const dtype = casts.get(node.int('to', 0));
      if (dtype === undefined || x.dtype === dtype) return undefined;
      return limit(x.dims, dtype) ? 'too-large' : fromNumbers(dtype, x.dims, numbers(x));
    }
    case 'Reshape':
    case 'Flatten':
    case 'Squeeze':
    case 'Unsqueeze': {
      const dims = reshaped(node, x, y);
      if (!dims || sizeOf(dims) !== sizeOf(x.dims)) return undefined;
      return limit(dims, x.dtype) ? 'too-large' : { dtype: x.dtype, dims, bytes: x.bytes() };
    }
    case 'Transpose': {
      const perm = node.ints(
        'perm',
        x.dims.map((_, axis) => x.dims.length - 1 - axis),
      );
      if (limit(x.dims, x.dtype)) return 'too-large';
      const strides = stridesOf(x.dims);
      return pick(
        x,
        perm.map((axis) => x.dims[axis] ?? 0),
        perm.map((axis) => strides[axis] ?? 0),
        0,
      );
    }
    case 'Slice':
      return sliced(node, x, inputs);
    case 'Gather':
      return y ? gathered(node, x, y) : undefined;
    case 'Concat':
      return concatenated(node, inputs, limit);
    case 'Add':
    case 'Sub':
    case 'Mul':
    case 'Div':
      return y ? arithmetic(node.opType, x, y, limit) : undefined;
    case 'Neg':
    case 'Sqrt':
    case 'Floor':
    case 'Ceil': {
      const f = { Neg: (v: number) => -v, Sqrt: Math.sqrt, Floor: Math.floor, Ceil: Math.ceil }[node.opType];
      return limit(x.dims, x.dtype) ? 'too-large' : fromNumbers(x.dtype, x.dims, numbers(x).map(f));
    }
    default:
      return undefined;
  }
}

function shapeOf(node: Node, type: ValueType | undefined): Result {
  const dims = type?.dims;
  if (!dims) return undefined;
  const rank = dims.length;
  const at = (index: number) => Math.max(0, Math.min(rank, index < 0 ? index + rank : index));
  const part = dims.slice(at(node.int('start', 0)), at(node.int('end', rank)));
  const known = part.filter((dim) => typeof dim === 'number');
  return known.length === part.length ? tensorFromInts('int64', [known.length], known) : undefined;
}

function numbers(tensor: Tensor): number[] {
  return tensor.dtype === 'float32' ? Array.from(floats(tensor)) : integers(tensor);
}

function fromNumbers(dtype: DataType, dims: readonly number[], values: readonly number[]): Result {
  if (dtype === 'float32') return tensorFromFloats(dims, Float32Array.from(values));
  if (dtype === 'bool')
    return tensorFromInts(
      dtype,
      dims,
      values.map((value) => (value === 0 ? 0 : 1)),
    );
  const whole = values.map(Math.trunc);
  // What a cast does outside the target's range is the platform's business.
  const most = dtype === 'int32' ? 2 ** 31 - 1 : Number.MAX_SAFE_INTEGER;
  if (!whole.every((value) => Math.abs(value) <= most)) return undefined;
  return tensorFromInts(dtype, dims, whole);
}

function axesOf(node: Node, second: Tensor | undefined, rank: number): number[] | undefined {
  const axes = node.attributes.has('axes') ? node.ints('axes', []) : second && integers(second);
  return axes?.map((axis) => (axis < 0 ? axis + rank : axis));
}

function reshaped(node: Node, x: Tensor, second: Tensor | undefined): number[] | undefined {
  const rank = x.dims.length;
  switch (node.opType) {
    case 'Flatten': {
      const axis = node.int('axis', 1);
      const split = axis < 0 ? axis + rank : axis;
      return [sizeOf(x.dims.slice(0, split)), sizeOf(x.dims.slice(split))];
    }
    case 'Squeeze': {
      const axes = axesOf(node, second, rank);
      return x.dims.filter((dim, axis) => (axes ? !axes.includes(axis) : dim !== 1));
    }
    case 'Unsqueeze': {
      const count = node.attributes.has('axes') ? node.ints('axes', []).length : second && sizeOf(second.dims);
      const axes = axesOf(node, second, rank + (count ?? 0));
      if (!axes) return undefined;
      const rest = [...x.dims];
      return Array.from({ length: rank + axes.length }, (_, axis) => (axes.includes(axis) ? 1 : (rest.shift() ?? 1)));
    }
    default: {
      if (!second || node.int('allowzero', 0) !== 0) return undefined;
      const wanted = integers(second).map((dim, axis) => (dim === 0 ? (x.dims[axis] ?? 0) : dim));
      const known = wanted.filter((dim) => dim >= 0).reduce((a, b) => a * b, 1);
      return wanted.map((dim) => (dim === -1 ? sizeOf(x.dims) / known : dim));
    }
  }
}

/** Elements of `x` at `offset + Σ index · stride`, in row-major order of `dims`. */
function pick(x: Tensor, dims: readonly number[], strides: readonly number[], offset: number): Result {
  const width = widths[x.dtype] ?? 1;
  const source = x.bytes();
  const size = sizeOf(dims);
  const bytes = new Uint8Array(size * width);
  const index = dims.map(() => 0);
  let from = offset;
  for (let i = 0; i < size; i++) {
    bytes.set(source.subarray(from * width, (from + 1) * width), i * width);
    for (let axis = dims.length - 1; axis >= 0; axis--) {
      const stride = strides[axis] ?? 0;
      const next = (index[axis] ?? 0) + 1;
      from += stride;
      index[axis] = next;
      if (next < (dims[axis] ?? 0)) break;
      from -= stride * next;
      index[axis] = 0;
    }
  }
  return { dtype: x.dtype, dims, bytes };
}

function sliced(node: Node, x: Tensor, inputs: readonly (Tensor | undefined)[]): Result {
  const given = (name: string, index: number): readonly number[] | undefined => {
    const input = inputs[index];
    return node.attributes.has(name) ? node.ints(name, []) : input && integers(input);
  };
  const [starts, ends] = [given('starts', 1), given('ends', 2)];
  if (!starts || !ends) return undefined;
  const axes = given('axes', 3) ?? starts.map((_, index) => index);
  const steps = given('steps', 4) ?? starts.map(() => 1);
  if (steps.some((step) => step !== 1)) return undefined;
  const dims = [...x.dims];
  const strides = stridesOf(x.dims);
  let offset = 0;
  for (const [i, given] of axes.entries()) {
    const axis = given < 0 ? given + dims.length : given;
    const length = dims[axis] ?? 0;
    const at = (value: number) => Math.max(0, Math.min(length, value < 0 ? value + length : value));
    const [start, end] = [at(starts[i] ?? 0), at(ends[i] ?? 0)];
    dims[axis] = Math.max(0, end - start);
    offset += start * (strides[axis] ?? 0);
  }
  return pick(x, dims, strides, offset);
}

function gathered(node: Node, x: Tensor, indices: Tensor): Result {
  // Shapes are vectors; gathering rows of weights would copy them.
  if (x.dims.length !== 1 || node.int('axis', 0) > 0) return undefined;
  const values = numbers(x);
  const found = integers(indices).map((index) => values[index < 0 ? index + values.length : index]);
  if (found.some((value) => value === undefined)) return undefined;
  return fromNumbers(
    x.dtype,
    indices.dims,
    found.map((value) => value ?? 0),
  );
}

function concatenated(node: Node, inputs: readonly (Tensor | undefined)[], limit: Limit): Result {
  const parts = inputs.filter((part) => part !== undefined);
  const [first] = parts;
  if (!first || parts.some((part) => part.dims.length !== first.dims.length || part.dtype !== first.dtype))
    return undefined;
  const given = node.int('axis', 0);
  const axis = given < 0 ? given + first.dims.length : given;
  const length = parts.reduce((sum, part) => sum + (part.dims[axis] ?? 0), 0);
  const dims = first.dims.with(axis, length);
  if (limit(dims, first.dtype)) return 'too-large';
  const outer = sizeOf(dims.slice(0, axis));
  const bytes = new Uint8Array(sizeOf(dims) * (widths[first.dtype] ?? 1));
  let at = 0;
  for (let row = 0; row < outer; row++)
    for (const part of parts) {
      const size = part.byteLength / outer;
      bytes.set(part.bytes().subarray(row * size, (row + 1) * size), at);
      at += size;
    }
  return { dtype: first.dtype, dims, bytes };
}

type Limit = (dims: readonly number[], dtype: DataType) => boolean;

function arithmetic(op: 'Add' | 'Sub' | 'Mul' | 'Div', x: Tensor, y: Tensor, limit: Limit): Result {
  const dims = x.dtype === y.dtype ? broadcastShape(x.dims, y.dims) : undefined;
  if (!dims || x.dtype === 'bool') return undefined;
  if (limit(dims, x.dtype)) return 'too-large';
  const [a, b] = [numbers(x), numbers(y)];
  const whole = x.dtype !== 'float32';
  const compute = {
    Add: (p: number, q: number) => p + q,
    Sub: (p: number, q: number) => p - q,
    Mul: (p: number, q: number) => p * q,
    Div: (p: number, q: number) => (whole ? Math.trunc(p / q) : p / q),
  }[op];
  if (whole && op === 'Div' && b.includes(0)) return undefined;
  const [indexA, indexB] = [broadcastIndex(dims, x.dims), broadcastIndex(dims, y.dims)];
  const values = Array.from({ length: sizeOf(dims) }, (_, i) => compute(a[indexA(i)] ?? 0, b[indexB(i)] ?? 0));
  return fromNumbers(x.dtype, dims, values);
}
