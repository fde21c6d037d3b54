import { dataTypeOf } from '../data-types.ts';
import type { DataType, Dim } from '../types.ts';
import { each } from './elementwise.ts';
import { shapeAt } from './layout.ts';
import { axisOf, type Fact, factOf, type Op, type Rules, single, unknowns } from './op.ts';

/** Operators that make values out of little: constants, shapes, ranges, counts; and those that reduce axes. */
export const sources: Rules = {
  Constant: single((op) => {
    const tensor = op.node.graph.constant(op.node.outputs[0] ?? '');
    return tensor === undefined ? undefined : factOf(tensor);
  }),
  ConstantOfShape: single((op) => {
    const value = op.node.attributes.get('value');
    return { dtype: value?.kind === 'tensor' ? value.value.dtype : 'float32', dims: shapeAt(op, 0) };
  }),
  Shape: single(shape),
  Size: single(() => ({ dtype: 'int64', dims: [] })),
  Range: single(range),
  OneHot: single(oneHot),
  NonZero: single((op) => ({ dtype: 'int64', dims: [op.dims(0)?.length, undefined] })),
  EyeLike: single((op) => ({ dtype: dataTypeOf(op.node.int('dtype', 0)) ?? op.dtype(0), dims: op.dims(0) })),
  ...each('RandomNormal RandomUniform')(
    single((op) => ({ dtype: dataTypeOf(op.node.int('dtype', 1)), dims: op.node.ints('shape', []) })),
  ),
  ...each('RandomNormalLike RandomUniformLike Bernoulli')(
    single((op) => ({ dtype: dataTypeOf(op.node.int('dtype', 0)) ?? op.dtype(0), dims: op.dims(0) })),
  ),
  ...each(
    'ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceSumSquare',
  )(single(reduce)),
  ArgMax: single(argMax),
  ArgMin: single(argMax),
  TopK: topK,
  QuantizeLinear: single((op) => ({ dtype: quantizedType(op), dims: op.dims(0) })),
  DequantizeLinear: single((op) => ({ dtype: op.dtype(1), dims: op.dims(0) })),
  DynamicQuantizeLinear: (op) => [
    { dtype: 'uint8', dims: op.dims(0) },
    { dtype: 'float32', dims: [] },
    { dtype: 'uint8', dims: [] },
  ],
  GatherBlockQuantized: single((op) => ({ dtype: op.dtype(2), dims: undefined })),
  If: branch,
  Loop: loop,
  Scan: scan,
};

/** Opset 15 has `start` and `end`. */
function shape(op: Op): Fact {
  const x = op.dims(0);
  if (x === undefined) return { dtype: 'int64', dims: [undefined] };
  const values = x.slice(op.node.int('start', 0), op.node.attributes.has('end') ? op.node.int('end', 0) : undefined);
  return { dtype: 'int64', dims: [values.length], values };
}

function range(op: Op): Fact {
  const [start, limit, delta] = [op.numbers(0)?.[0], op.numbers(1)?.[0], op.numbers(2)?.[0]];
  const dtype = op.dtype(0) ?? op.dtype(1);
  if (start === undefined || delta === undefined || delta === 0) return { dtype, dims: [undefined] };
  if (limit !== undefined) return { dtype, dims: [Math.max(0, Math.ceil((limit - start) / delta))] };
  const end = op.values(1)?.[0];
  return { dtype, dims: [start === 0 && delta === 1 ? end : undefined] };
}

function oneHot(op: Op): Fact {
  const indices = op.dims(0);
  const depth = op.values(1)?.[0];
  const axis = indices === undefined ? undefined : axisOf(op.node.int('axis', -1), indices.length + 1);
  return { dtype: op.dtype(2), dims: axis === undefined ? undefined : indices?.toSpliced(axis, 0, depth) };
}

/** Axes are an attribute, and from opset 13 (ReduceSum) or 18 on an input. */
function reduce(op: Op): Fact {
  const x = op.dims(0);
  const keep = op.node.int('keepdims', 1) === 1;
  const dtype = op.dtype(0);
  if (x === undefined) return { dtype, dims: undefined };
  const given = op.intsAt(1, 'axes');
  if (given === undefined && op.has(1)) return { dtype, dims: keep ? unknowns(x.length) : undefined };
  if (given === undefined || given.length === 0)
    return { dtype, dims: op.node.int('noop_with_empty_axes', 0) === 1 ? x : keep ? x.map(() => 1) : [] };
  const axes = new Set(given.map((axis) => axisOf(axis, x.length)));
  return { dtype, dims: keep ? x.map((dim, i) => (axes.has(i) ? 1 : dim)) : x.filter((_, i) => !axes.has(i)) };
}

function argMax(op: Op): Fact {
  const x = op.dims(0);
  const axis = x === undefined ? undefined : axisOf(op.node.int('axis', 0), x.length);
  if (x === undefined || axis === undefined) return { dtype: 'int64', dims: undefined };
  return { dtype: 'int64', dims: op.node.int('keepdims', 1) === 1 ? x.with(axis, 1) : x.toSpliced(axis, 1) };
}

function topK(op: Op): readonly Fact[] {
  const x = op.dims(0);
  const axis = x === undefined ? undefined : axisOf(op.node.int('axis', -1), x.length);
  const count: Dim = op.has(1) ? op.values(1)?.[0] : op.node.int('k', 0);
  const dims = axis === undefined ? undefined : x?.with(axis, count);
  return [
    { dtype: op.dtype(0), dims },
    { dtype: 'int64', dims },
  ];
}

function quantizedType(op: Op): DataType | undefined {
  return op.has(2) ? op.dtype(2) : (dataTypeOf(op.node.int('output_dtype', 0)) ?? 'uint8');
}

/** Both branches give the same types; a length only where they agree. */
function branch(op: Op): readonly (Fact | undefined)[] {
  const [first, ...others] = op.node.subgraphs.map((body) => op.inferBody(body, []));
  return (first ?? []).map((fact, i) => others.reduce((one, other) => common(one, other[i]), fact));
}

function common(a: Fact | undefined, b: Fact | undefined): Fact | undefined {
  if (a === undefined || b === undefined) return undefined;
  const dims =
    a.dims?.length === b.dims?.length ? a.dims?.map((dim, i) => (dim === b.dims?.[i] ? dim : undefined)) : undefined;
  return { dtype: a.dtype === b.dtype ? a.dtype : undefined, dims };
}

/** What is carried keeps its type, but may change its shape; what is collected gains an axis of unknown length. */
function loop(op: Op): readonly (Fact | undefined)[] {
  const [body] = op.node.subgraphs;
  if (body === undefined) return [];
  const carried = Math.max(0, op.node.inputs.length - 2);
  const inputs = op.node.inputs.slice(2).map((_, i): Fact => ({ dtype: op.dtype(i + 2), dims: undefined }));
  const scalar = (dtype: DataType): Fact => ({ dtype, dims: [] });
  const outputs = op.inferBody(body, [scalar('int64'), scalar('bool'), ...inputs]).slice(1);
  return outputs.map((fact, i): Fact | undefined => {
    if (i < carried) return { dtype: fact?.dtype ?? op.dtype(i + 2), dims: undefined };
    return fact && { dtype: fact.dtype, dims: fact.dims === undefined ? undefined : [undefined, ...fact.dims] };
  });
}

/** States keep their types; the others are taken apart, and put together again, along axis 0. @see Scan-9 */
function scan(op: Op): readonly (Fact | undefined)[] {
  const [body] = op.node.subgraphs;
  if (body === undefined || op.opset < 9) return [];
  const states = op.node.inputs.length - op.node.int('num_scan_inputs', 0);
  const inputs = op.node.inputs.map((_, i): Fact => {
    const dims = i < states ? op.dims(i) : op.dims(i)?.slice(1);
    const plain = i < states || !op.node.attributes.has('scan_input_axes');
    return { dtype: op.dtype(i), dims: plain ? dims : undefined };
  });
  const stretch = op.node.attributes.has('scan_output_axes');
  return op.inferBody(body, inputs).map((fact, i): Fact | undefined => {
    if (i < states || fact === undefined) return fact && { dtype: fact.dtype, dims: fact.dims };
    return { dtype: fact.dtype, dims: stretch || fact.dims === undefined ? undefined : [undefined, ...fact.dims] };
  });
}
