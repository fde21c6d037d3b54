import type { DataType, Dim } from '../types.ts';
import { each } from './elementwise.ts';
import { type Fact, floatsOf, type Op, type Rules, single, unknowns } from './op.ts';

/** Operators that slide a window over the last axes of `[batch, channels, …]`, or resize them. */
export const windows: Rules = {
  Conv: single((op) => conv(op, op.dtype(0), op.dims(1))),
  FusedConv: single((op) => conv(op, op.dtype(0), op.dims(1))),
  ConvInteger: single((op) => conv(op, 'int32', op.dims(1))),
  QLinearConv: single((op) => conv(op, op.dtype(7), op.dims(3))),
  ConvTranspose: single(convTranspose),
  ...each('MaxPool AveragePool LpPool QLinearAveragePool')((op) => {
    const dims = pool(op);
    return [
      { dtype: op.dtype(0), dims },
      { dtype: 'int64', dims },
    ];
  }),
  ...each('GlobalAveragePool GlobalMaxPool GlobalLpPool QLinearGlobalAveragePool')(
    single((op) => ({ dtype: op.dtype(0), dims: op.dims(0)?.map((dim, i) => (i < 2 ? dim : 1)) })),
  ),
  Resize: single(resize),
  Upsample: single(resize),
  DepthToSpace: single((op) => blocks(op, (dim, size) => dim * size)),
  SpaceToDepth: single((op) => blocks(op, (dim, size) => dim / size)),
};

interface Window {
  readonly kernel: readonly Dim[];
  readonly strides: readonly number[];
  readonly dilations: readonly number[];
  readonly pads: readonly number[];
  readonly autoPad: string;
  readonly ceil: boolean;
}

function windowOf(op: Op, kernel: readonly Dim[]): Window {
  const { node } = op;
  const ones = kernel.map(() => 1);
  return {
    kernel,
    strides: node.ints('strides', ones),
    dilations: node.ints('dilations', ones),
    pads: node.ints('pads', [...ones, ...ones].fill(0)),
    autoPad: node.string('auto_pad', 'NOTSET'),
    ceil: node.int('ceil_mode', 0) === 1,
  };
}

function conv(op: Op, dtype: DataType | undefined, weights: readonly Dim[] | undefined): Fact {
  const x = op.dims(0);
  if (x === undefined || weights === undefined || x.length !== weights.length) return { dtype, dims: undefined };
  const window = windowOf(
    op,
    op.node.ints('kernel_shape', []).length > 0 ? op.node.ints('kernel_shape', []) : weights.slice(2),
  );
  return { dtype, dims: [x[0], weights[0], ...x.slice(2).map((dim, i) => slide(dim, window, i))] };
}

function pool(op: Op): readonly Dim[] | undefined {
  const x = op.dims(0);
  const window = windowOf(op, op.node.ints('kernel_shape', []));
  if (x === undefined) return undefined;
  return x.map((dim, i) => (i < 2 ? dim : slide(dim, window, i - 2)));
}

/** @see Conv-22 and MaxPool-22, "output_spatial_shape" */
function slide(dim: Dim, window: Window, axis: number): Dim {
  const kernel = window.kernel[axis];
  const stride = window.strides[axis] ?? 1;
  const begin = window.pads[axis] ?? 0;
  const end = window.pads[axis + window.kernel.length] ?? 0;
  const extent = typeof kernel === 'number' ? (kernel - 1) * (window.dilations[axis] ?? 1) + 1 : undefined;
  const same = window.autoPad.startsWith('SAME');
  // What keeps the length keeps its name.
  const keeps = same || (window.autoPad !== 'VALID' && extent !== undefined && begin + end === extent - 1);
  if (typeof dim !== 'number') return keeps && stride === 1 ? dim : undefined;
  if (same) return Math.ceil(dim / stride);
  if (extent === undefined) return undefined;
  const room = dim + (window.autoPad === 'VALID' ? 0 : begin + end) - extent;
  const steps = window.ceil ? Math.ceil(room / stride) : Math.floor(room / stride);
  // A last window that would begin in the padding behind is left out.
  return window.ceil && steps * stride >= dim + begin ? steps : steps + 1;
}

function convTranspose(op: Op): Fact {
  const dtype = op.dtype(0);
  const x = op.dims(0);
  const weights = op.dims(1);
  if (x === undefined || weights === undefined) return { dtype, dims: undefined };
  const window = windowOf(op, weights.slice(2));
  const more = op.node.ints(
    'output_padding',
    window.kernel.map(() => 0),
  );
  const given = op.node.ints('output_shape', []);
  const channels = weights[1];
  const spatial = x.slice(2).map((dim, i) => {
    if (given.length > 0) return given[i];
    const kernel = window.kernel[i];
    if (typeof dim !== 'number' || typeof kernel !== 'number') return undefined;
    const stride = window.strides[i] ?? 1;
    if (window.autoPad.startsWith('SAME')) return dim * stride;
    const pads = window.autoPad === 'VALID' ? 0 : (window.pads[i] ?? 0) + (window.pads[i + window.kernel.length] ?? 0);
    return stride * (dim - 1) + (more[i] ?? 0) + (kernel - 1) * (window.dilations[i] ?? 1) + 1 - pads;
  });
  return {
    dtype,
    dims: [x[0], typeof channels === 'number' ? channels * op.node.int('group', 1) : undefined, ...spatial],
  };
}

/** Resize-10 and Upsample have scales as input 1; from 11 on, inputs are X, roi, scales, sizes. */
function resize(op: Op): Fact {
  const dtype = op.dtype(0);
  const x = op.dims(0);
  if (x === undefined) return { dtype, dims: undefined };
  const old = op.node.opType === 'Upsample' || op.opset < 11;
  const axes = op.node
    .ints(
      'axes',
      x.map((_, i) => i),
    )
    .map((axis) => (axis < 0 ? axis + x.length : axis));
  const stretch = op.node.string('keep_aspect_ratio_policy', 'stretch') === 'stretch';
  const sizes = old ? undefined : op.values(3);
  const scales =
    floatsOf(op.constant(old ? 1 : 2)) ??
    (op.node.attributes.get('scales')?.kind === 'floats' ? attributeScales(op) : undefined);
  const dims = [...x];
  for (const [i, axis] of axes.entries()) {
    const dim = x[axis];
    const scale = scales?.[i];
    if (sizes !== undefined && op.has(3)) dims[axis] = stretch ? sizes[i] : undefined;
    else if (scale === 1) dims[axis] = dim;
    else dims[axis] = typeof dim === 'number' && scale !== undefined ? Math.floor(dim * scale) : undefined;
  }
  return { dtype, dims };
}

function attributeScales(op: Op): readonly number[] {
  const scales = op.node.attributes.get('scales');
  return scales?.kind === 'floats' ? scales.value : [];
}

function blocks(op: Op, resizeBy: (dim: number, size: number) => number): Fact {
  const size = op.node.int('blocksize', 1);
  const [n, c, ...spatial] = op.dims(0) ?? unknowns(4);
  const scaled = spatial.map((dim) => (typeof dim === 'number' ? resizeBy(dim, size) : undefined));
  const grows = op.node.opType === 'DepthToSpace';
  const channels = typeof c === 'number' ? (grows ? c / size ** 2 : c * size ** 2) : undefined;
  return { dtype: op.dtype(0), dims: [n, channels, ...scaled] };
}
