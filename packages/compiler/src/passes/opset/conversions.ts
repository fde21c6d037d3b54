import type { Node, ValueType } from '@flotilla/onnx';
import { floats, tensorFromFloats, tensorFromInts } from '@flotilla/onnx';
import { CompilerError } from '../../errors.ts';

export type Types = ReadonlyMap<string, ValueType>;

/** What changed for an operator in one version of ai.onnx, between 7 and 21. */
export interface Conversion {
  readonly since: number;
  readonly convert: (node: Node, types: Types) => void;
}

/** In rising order of version. Operators without an entry mean the same from 7 to 21. */
export function conversionOf(opType: string): readonly Conversion[] {
  return table.get(opType) ?? [];
}

const reductions = [
  'ReduceL1',
  'ReduceL2',
  'ReduceLogSum',
  'ReduceLogSumExp',
  'ReduceMax',
  'ReduceMean',
  'ReduceMin',
  'ReduceProd',
  'ReduceSumSquare',
];

const table = new Map<string, readonly Conversion[]>([
  ['Squeeze', [{ since: 13, convert: axesToInput }]],
  ['Unsqueeze', [{ since: 13, convert: axesToInput }]],
  ['ReduceSum', [{ since: 13, convert: axesToInput }]],
  ...reductions.map((op): [string, readonly Conversion[]] => [op, [{ since: 18, convert: axesToInput }]]),
  ['Clip', [{ since: 11, convert: clipBounds }]],
  ['Dropout', [{ since: 12, convert: (node) => node.setAttribute('ratio', undefined) }]],
  ['Pad', [{ since: 11, convert: padInputs }]],
  ['Slice', [{ since: 10, convert: sliceInputs }]],
  ['TopK', [{ since: 10, convert: (node) => intsToInput(node, 'k', 1) }]],
  [
    'Split',
    [
      { since: 13, convert: splitInput },
      { since: 18, convert: splitCount },
    ],
  ],
  ['Upsample', [{ since: 10, convert: upsample }]],
  [
    'Resize',
    [
      { since: 11, convert: resizeInputs },
      { since: 13, convert: resizeMode },
    ],
  ],
  ['Softmax', [{ since: 13, convert: softmaxAxis }]],
  ['LogSoftmax', [{ since: 13, convert: softmaxAxis }]],
  ['Hardmax', [{ since: 13, convert: softmaxAxis }]],
  [
    'BatchNormalization',
    [
      { since: 9, convert: batchNormSpatial },
      { since: 14, convert: batchNormOutputs },
    ],
  ],
  ['Scatter', [{ since: 11, convert: (node) => rename(node, 'ScatterElements') }]],
  ['RoiAlign', [{ since: 16, convert: roiAlignDefault }]],
  ['GridSample', [{ since: 20, convert: gridSampleMode }]],
  ['Scan', [{ since: 9, convert: (node) => refuse(node, 'Scan of opset 8 runs over batches') }]],
  ['DFT', [{ since: 20, convert: dftAxis }]],
  ['GroupNormalization', [{ since: 21, convert: groupScales }]],
]);

function refuse(node: Node, reason: string): never {
  throw new CompilerError('compiler/opset', `${node.opType} cannot be raised to the new opset: ${reason}`, {
    where: node.name || (node.outputs[0] ?? ''),
    hint: 'export the model anew at opset 13 or later',
  });
}

function input(
  node: Node,
  index: number,
  prefix: string,
  dims: readonly number[],
  values: readonly number[] | number,
): void {
  const list = typeof values === 'number' ? [values] : values;
  const name = node.graph.uniqueName(`${node.outputs[0]}_${prefix}`);
  node.graph.addInitializer(name, tensorFromInts('int64', dims, list));
  node.setInput(index, name);
}

/** An attribute of integers that became input `index`. Absent stays absent. */
function intsToInput(node: Node, name: string, index: number): void {
  const attribute = node.attributes.get(name);
  if (!attribute) return;
  const values = attribute.kind === 'int' ? [node.int(name, 0)] : node.ints(name, []);
  input(node, index, name, [values.length], values);
  node.setAttribute(name, undefined);
}

function axesToInput(node: Node): void {
  intsToInput(node, 'axes', 1);
}

function clipBounds(node: Node, types: Types): void {
  const dtype = types.get(node.inputs[0] ?? '')?.dtype ?? 'float32';
  for (const [index, name] of ['min', 'max'].entries()) {
    if (!node.attributes.has(name)) continue;
    // Opset 6 knew float types only; a half-precision bound would have to be half too.
    if (dtype !== 'float32') refuse(node, `bounds for ${dtype}`);
    const bound = node.graph.uniqueName(`${node.outputs[0]}_${name}`);
    node.graph.addInitializer(bound, tensorFromFloats([], Float32Array.of(node.float(name, 0))));
    if (index === 1 && node.inputs.length < 2) node.setInput(1, '');
    node.setInput(index + 1, bound);
    node.setAttribute(name, undefined);
  }
}

function padInputs(node: Node, types: Types): void {
  intsToInput(node, 'pads', 1);
  const dtype = types.get(node.inputs[0] ?? '')?.dtype ?? 'float32';
  const value = node.float('value', 0);
  node.setAttribute('value', undefined);
  if (value === 0) return;
  if (dtype !== 'float32') refuse(node, `a padding value for ${dtype}`);
  const name = node.graph.uniqueName(`${node.outputs[0]}_value`);
  node.graph.addInitializer(name, tensorFromFloats([], Float32Array.of(value)));
  node.setInput(2, name);
}

function sliceInputs(node: Node): void {
  intsToInput(node, 'starts', 1);
  intsToInput(node, 'ends', 2);
  intsToInput(node, 'axes', 3);
}

function splitInput(node: Node): void {
  intsToInput(node, 'split', 1);
}

function splitCount(node: Node): void {
  if ((node.inputs[1] ?? '') === '') node.setAttribute('num_outputs', { int: node.outputs.length });
}

/** Upsample and Resize-10 place samples as Resize-11 calls `asymmetric`, and round down. */
function upsample(node: Node): void {
  const scales = node.attributes.has('scales') ? node.attributes.get('scales') : undefined;
  if (scales?.kind === 'floats') {
    const name = node.graph.uniqueName(`${node.outputs[0]}_scales`);
    node.graph.addInitializer(name, tensorFromFloats([scales.value.length], Float32Array.from(scales.value)));
    node.setInput(1, name);
    node.setAttribute('scales', undefined);
  }
  resizeInputs(rename(node, 'Resize'));
}

function resizeInputs(node: Node): void {
  // From here on: x, roi, scales, sizes.
  const scales = node.inputs[1] ?? '';
  node.setInput(1, '');
  node.setInput(2, scales);
  node.setAttribute('coordinate_transformation_mode', { string: 'asymmetric' });
  node.setAttribute('nearest_mode', { string: 'floor' });
}

function resizeMode(node: Node): void {
  if (node.string('coordinate_transformation_mode', 'half_pixel') === 'tf_half_pixel_for_nn')
    refuse(node, 'tf_half_pixel_for_nn ended with opset 12');
}

/**
 * Until 12 Softmax flattened everything from `axis` (default 1) on into one row; from 13 it takes one axis (default −1).
 * The same where `axis` is the last; else flatten, take the row, and shape back.
 */
function softmaxAxis(node: Node, types: Types): void {
  const [x = ''] = node.inputs;
  const rank = types.get(x)?.dims?.length;
  const axis = node.int('axis', 1);
  if (axis === -1 || (rank !== undefined && (axis === rank - 1 || rank === 1))) {
    node.setAttribute('axis', { int: -1 });
    return;
  }
  const { graph } = node;
  const [output = ''] = node.outputs;
  const [flat, rows, shape] = ['flat', 'rows', 'shape'].map((part) => graph.uniqueName(`${output}_${part}`));
  graph.addNode(
    { opType: 'Flatten', inputs: [x], outputs: [flat ?? ''], attributes: { axis: { int: axis } } },
    { before: node },
  );
  graph.addNode({ opType: 'Shape', inputs: [x], outputs: [shape ?? ''] }, { before: node });
  graph.addNode(
    { opType: node.opType, inputs: [flat ?? ''], outputs: [rows ?? ''], attributes: { axis: { int: -1 } } },
    { before: node },
  );
  replace(node, 'Reshape', [rows ?? '', shape ?? '']);
}

function batchNormSpatial(node: Node): void {
  if (node.int('spatial', 1) !== 1) refuse(node, 'spatial = 0 ended with opset 8');
  node.setAttribute('spatial', undefined);
}

function batchNormOutputs(node: Node): void {
  // More outputs meant training until 13.
  if (node.outputs.slice(1).some((name) => name !== '')) refuse(node, 'it is in training mode');
}

function roiAlignDefault(node: Node): void {
  if (!node.attributes.has('coordinate_transformation_mode'))
    node.setAttribute('coordinate_transformation_mode', { string: 'output_half_pixel' });
}

function gridSampleMode(node: Node): void {
  const mode = node.string('mode', 'bilinear');
  const renamed = new Map([
    ['bilinear', 'linear'],
    ['bicubic', 'cubic'],
  ]).get(mode);
  if (renamed !== undefined) node.setAttribute('mode', { string: renamed });
}

function dftAxis(node: Node): void {
  const axis = node.int('axis', 1);
  node.setAttribute('axis', undefined);
  if ((node.inputs[1] ?? '') === '') node.setInput(1, '');
  input(node, 2, 'axis', [], axis);
}

/** Scale and bias were per group in opset 18, and are per channel from 21 on. */
function groupScales(node: Node, types: Types): void {
  const channels = types.get(node.inputs[0] ?? '')?.dims?.[1];
  for (const index of [1, 2]) {
    const perGroup = node.graph.constant(node.inputs[index] ?? '');
    const size = Number(channels) / (perGroup?.dims[0] ?? 0);
    if (perGroup?.dtype !== 'float32' || typeof channels !== 'number' || !Number.isInteger(size))
      refuse(node, 'its scale is per group, later per channel, and constants or channels are unknown');
    const values = floats(perGroup);
    const spread = Float32Array.from({ length: channels }, (_, channel) => values[Math.floor(channel / size)] ?? 0);
    const name = node.graph.uniqueName(`${node.inputs[index]}_channels`);
    node.graph.addInitializer(name, tensorFromFloats([channels], spread));
    node.setInput(index, name);
  }
}

function rename(node: Node, opType: string): Node {
  return replace(node, opType, node.inputs, true);
}

/** A node of another operator in the same place, with the same outputs. */
function replace(node: Node, opType: string, inputs: readonly string[], keepAttributes = false): Node {
  const { graph } = node;
  const next = graph.nodes[graph.nodes.indexOf(node) + 1];
  const outputs = [...node.outputs];
  const attributes = keepAttributes ? [...node.attributes] : [];
  graph.removeNode(node);
  const made = graph.addNode({ opType, name: node.name, inputs, outputs }, { before: next });
  for (const [name, attribute] of attributes) {
    if (attribute.kind === 'int') made.setAttribute(name, { int: attribute.value });
    else if (attribute.kind === 'string') made.setAttribute(name, { string: attribute.value });
    else if (attribute.kind === 'float') made.setAttribute(name, { float: attribute.value });
    else if (attribute.kind === 'ints') made.setAttribute(name, { ints: attribute.value });
  }
  return made;
}
