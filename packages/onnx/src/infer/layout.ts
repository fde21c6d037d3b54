import type { Dim } from '../types.ts';
import { axisOf, broadcast, type Fact, maxValues, type Op, product, type Rules, single, unknowns } from './op.ts';

/** Operators that move elements about: what they do to shapes is all they do. */
export const layout: Rules = {
  Reshape: single(reshape),
  Flatten: single(flatten),
  Transpose: single(transpose),
  Squeeze: single(squeeze),
  Unsqueeze: single(unsqueeze),
  Slice: single(slice),
  Concat: single(concat),
  Split: split,
  Gather: single(gather),
  GatherElements: single((op) => ({ dtype: op.dtype(0), dims: op.dims(1) })),
  GatherND: single(gatherNd),
  Expand: single((op) => ({ dtype: op.dtype(0), dims: broadcast([op.dims(0), shapeAt(op, 1)]) })),
  Tile: single(tile),
  Pad: single(pad),
};

/** The shape that an integer input spells out; its rank at least, from its own length. */
export function shapeAt(op: Op, index: number): readonly Dim[] | undefined {
  const values = op.values(index);
  if (values !== undefined) return values.map((dim) => (typeof dim === 'number' && dim < 0 ? undefined : dim));
  const [rank] = op.dims(index) ?? [];
  return typeof rank === 'number' && rank <= maxValues ? unknowns(rank) : undefined;
}

function reshape(op: Op): Fact {
  const dtype = op.dtype(0);
  const x = op.dims(0);
  const wanted = op.has(1) ? op.values(1) : op.node.ints('shape', []);
  if (wanted === undefined) return { dtype, dims: shapeAt(op, 1) };
  const copiesZero = op.node.int('allowzero', 0) === 0;
  const dims = wanted.map((dim, i) => (dim === 0 && copiesZero ? x?.[i] : dim === -1 ? undefined : dim));
  const open = wanted.indexOf(-1);
  if (open >= 0 && x !== undefined) dims[open] = remainder(x, dims.toSpliced(open, 1));
  return { dtype, dims, values: product(dims) === op.values(0)?.length && dims.length <= 1 ? op.values(0) : undefined };
}

/** What is left for the −1, once lengths known by number or by name have been crossed out on both sides. */
function remainder(have: readonly Dim[], used: readonly Dim[]): Dim {
  const rest = [...have];
  let divisor = 1;
  for (const dim of used) {
    if (typeof dim === 'number') divisor *= dim;
    else if (dim === undefined || !rest.includes(dim)) return undefined;
    else rest.splice(rest.indexOf(dim), 1);
  }
  const names = rest.filter((dim) => typeof dim !== 'number');
  const number = rest.reduce<number>((all, dim) => (typeof dim === 'number' ? all * dim : all), 1);
  if (divisor === 0 || number % divisor !== 0) return undefined;
  if (names.length === 0) return number / divisor;
  return names.length === 1 && number === divisor ? names[0] : undefined;
}

function flatten(op: Op): Fact {
  const x = op.dims(0);
  if (x === undefined) return { dtype: op.dtype(0), dims: [undefined, undefined] };
  const axis = op.node.int('axis', 1);
  const at = axis < 0 ? axis + x.length : axis;
  return { dtype: op.dtype(0), dims: [lengthOf(x.slice(0, at)), lengthOf(x.slice(at))] };
}

/** Of several axes as one: a name only if it stands alone. */
function lengthOf(dims: readonly Dim[]): Dim {
  const others = dims.filter((dim) => dim !== 1);
  return others.length === 1 ? others[0] : product(dims);
}

function transpose(op: Op): Fact {
  const x = op.dims(0);
  const order = op.node.ints('perm', x?.map((_, i) => x.length - 1 - i) ?? []);
  return { dtype: op.dtype(0), dims: x === undefined ? unknownsOr(order) : order.map((axis) => x[axis]) };
}

function unknownsOr(order: readonly number[]): readonly Dim[] | undefined {
  return order.length > 0 ? unknowns(order.length) : undefined;
}

function squeeze(op: Op): Fact {
  const x = op.dims(0);
  const axes = op.intsAt(1, 'axes')?.map((axis) => axisOf(axis, x?.length ?? 0));
  const values = op.values(0);
  if (x === undefined || (op.has(1) && axes === undefined)) return { dtype: op.dtype(0), dims: undefined, values };
  if (axes === undefined && x.some((dim) => typeof dim !== 'number')) return { dtype: op.dtype(0), dims: undefined };
  const dims = x.filter((dim, i) => (axes === undefined ? dim !== 1 : !axes.includes(i)));
  return { dtype: op.dtype(0), dims, values };
}

function unsqueeze(op: Op): Fact {
  const x = op.dims(0);
  const given = op.intsAt(1, 'axes');
  const values = (x?.length ?? 0) + (given?.length ?? 1) <= 1 ? op.values(0) : undefined;
  if (x === undefined || given === undefined) return { dtype: op.dtype(0), dims: undefined, values };
  const rank = x.length + given.length;
  const axes = new Set(given.map((axis) => axisOf(axis, rank)));
  const rest = x.values();
  const dims = Array.from({ length: rank }, (_, i): Dim => (axes.has(i) ? 1 : rest.next().value));
  return { dtype: op.dtype(0), dims, values };
}

/** Slice-1 has attributes; from 10 on, inputs are data, starts, ends, axes, steps. */
function slice(op: Op): Fact {
  const dtype = op.dtype(0);
  const x = op.dims(0);
  const starts = op.intsAt(1, 'starts');
  const ends = op.intsAt(2, 'ends');
  if (x === undefined) return { dtype, dims: undefined };
  const axes = op.has(3) || op.node.attributes.has('axes') ? op.intsAt(3, 'axes') : (starts ?? ends)?.map((_, i) => i);
  if (axes === undefined) return { dtype, dims: unknowns(x.length) };
  const steps = op.has(4) ? op.numbers(4) : axes.map(() => 1);
  const dims = [...x];
  for (const [i, axis] of axes.entries()) {
    const at = axisOf(axis, x.length);
    if (at !== undefined) dims[at] = sliced(x[at], starts?.[i], ends?.[i], steps?.[i]);
  }
  const values =
    x.length === 1 && axes.length === 1 ? sliceValues(op.values(0), starts?.[0], ends?.[0], steps?.[0]) : undefined;
  return { dtype, dims, values };
}

const toTheEnd = 2 ** 31 - 1;

function sliced(dim: Dim, start: number | undefined, end: number | undefined, step: number | undefined): Dim {
  if (start === undefined || end === undefined || step === undefined || step === 0) return undefined;
  if (typeof dim !== 'number') return start === 0 && end >= toTheEnd && step === 1 ? dim : undefined;
  const [low, high] = step > 0 ? [0, dim] : [-1, dim - 1];
  const clamp = (at: number) => Math.min(high, Math.max(low, at < 0 ? at + dim : at));
  return Math.max(0, Math.ceil((clamp(end) - clamp(start)) / step));
}

function sliceValues(
  values: readonly Dim[] | undefined,
  start: number | undefined,
  end: number | undefined,
  step: number | undefined,
): readonly Dim[] | undefined {
  return values === undefined || start === undefined || end === undefined || step !== 1
    ? undefined
    : values.slice(start, end);
}

function concat(op: Op): Fact {
  const inputs = op.node.inputs.map((_, i) => op.input(i));
  const [first] = inputs;
  const rank = inputs.find((input) => input?.dims !== undefined)?.dims?.length;
  const axis = rank === undefined ? undefined : axisOf(op.node.int('axis', 1), rank);
  if (rank === undefined || axis === undefined) return { dtype: first?.dtype, dims: undefined };
  const dims = Array.from({ length: rank }, (_, i): Dim => {
    const lengths = inputs.map((input) => input?.dims?.[i]);
    // Along other axes all are equal: the one that is known best speaks for them.
    if (i !== axis) return lengths.find((dim) => typeof dim === 'number') ?? lengths.find((dim) => dim !== undefined);
    return lengths.length === 1 ? lengths[0] : sum(lengths);
  });
  const integer = /^int(32|64)$/.test(first?.dtype ?? '');
  return { dtype: first?.dtype, dims, values: rank === 1 && integer ? concatValues(inputs) : undefined };
}

function concatValues(inputs: readonly (Fact | undefined)[]): readonly Dim[] | undefined {
  const all: Dim[] = [];
  for (const input of inputs) {
    const [length] = input?.dims ?? [];
    if (input?.values !== undefined) all.push(...input.values);
    else if (typeof length === 'number' && length <= maxValues) all.push(...unknowns(length));
    else return undefined;
  }
  return all.length <= maxValues ? all : undefined;
}

function sum(dims: readonly Dim[]): number | undefined {
  let total = 0;
  for (const dim of dims) {
    if (typeof dim !== 'number') return undefined;
    total += dim;
  }
  return total;
}

function split(op: Op): readonly Fact[] {
  const x = op.dims(0);
  const dtype = op.dtype(0);
  const count = op.node.outputs.length;
  const axis = x === undefined ? undefined : axisOf(op.node.int('axis', 0), x.length);
  if (x === undefined || axis === undefined) return op.node.outputs.map(() => ({ dtype, dims: undefined }));
  const sizes = op.intsAt(1, 'split');
  const whole = x[axis];
  const part = typeof whole === 'number' ? Math.ceil(whole / count) : undefined;
  return op.node.outputs.map((_, i) => {
    const even =
      op.has(1) || part === undefined || typeof whole !== 'number' ? undefined : Math.min(part, whole - i * part);
    return { dtype, dims: x.with(axis, sizes?.[i] ?? even) };
  });
}

function gather(op: Op): Fact {
  const dtype = op.dtype(0);
  const x = op.dims(0);
  const indices = op.dims(1);
  const axis = x === undefined ? undefined : axisOf(op.node.int('axis', 0), x.length);
  if (x === undefined || indices === undefined || axis === undefined) return { dtype, dims: undefined };
  const values = op.values(0);
  const picked = indices.length <= 1 ? op.numbers(1) : undefined;
  return {
    dtype,
    dims: [...x.slice(0, axis), ...indices, ...x.slice(axis + 1)],
    values: values === undefined ? undefined : picked?.map((index) => values.at(index)),
  };
}

function gatherNd(op: Op): Fact {
  const x = op.dims(0);
  const indices = op.dims(1);
  const depth = indices?.at(-1);
  if (x === undefined || indices === undefined || typeof depth !== 'number')
    return { dtype: op.dtype(0), dims: undefined };
  const batch = op.node.int('batch_dims', 0);
  return { dtype: op.dtype(0), dims: [...indices.slice(0, -1), ...x.slice(batch + depth)] };
}

function tile(op: Op): Fact {
  const x = op.dims(0);
  const repeats = op.values(1);
  const dims = x?.map((dim, i) => {
    const times = repeats?.[i];
    if (times === 1) return dim;
    return typeof dim === 'number' && typeof times === 'number' ? dim * times : undefined;
  });
  return { dtype: op.dtype(0), dims };
}

/** Pad-2 has an attribute; from 11 on the pads are input 1, from 18 on axes are input 3. */
function pad(op: Op): Fact {
  const x = op.dims(0);
  const pads = op.intsAt(1, 'pads') ?? (op.node.attributes.has('paddings') ? op.node.ints('paddings', []) : undefined);
  const axes = op.has(3) ? op.numbers(3) : x?.map((_, i) => i);
  if (x === undefined || pads === undefined || axes === undefined)
    return { dtype: op.dtype(0), dims: x === undefined ? undefined : unknowns(x.length) };
  const dims = [...x];
  for (const [i, axis] of axes.entries()) {
    const at = axisOf(axis, x.length);
    const more = (pads[i] ?? 0) + (pads[i + axes.length] ?? 0);
    const dim = at === undefined ? undefined : x[at];
    if (at !== undefined) dims[at] = more === 0 ? dim : typeof dim === 'number' ? dim + more : undefined;
  }
  return { dtype: op.dtype(0), dims };
}
