import { type Graph, inferTypes, type Node, type ValueType } from '@flotilla/onnx';
import type { Calibration } from '../calibrate/calibration.ts';
import { CompilerError } from '../errors.ts';
import { definePass, type PassContext } from '../pass.ts';
import { setConstant, soleReader, withConstant } from './edit.ts';
import { convertDynamically } from './quantize-int8-dynamic.ts';
import { Forms } from './int8/forms.ts';
import { intervalOf } from './int8/intervals.ts';
import { layersInFloat } from './int8/layers-in-float.ts';
import { rangeOf } from './int8/observed.ts';
import { type InFloat, onIntegers, type Plan, planInt8, type Role } from './int8/plan.ts';
import { quantizeSooner } from './int8/quantize-sooner.ts';
import { storeTables } from './int8/tables.ts';
import { isRecurrent } from './int8/recurrent.ts';
import { spectrumReason } from './int8/spectrum.ts';
import { type StaticOptions, staticOptions } from './int8/static-options.ts';
import { quantizeWeights, storeHalves, storeWeights, type WeightRange } from './int8/weights.ts';

/**
 * Static int8 as one portable graph of QuantizeLinear and DequantizeLinear: symmetric int8 weights per output channel,
 * asymmetric uint8 activations over calibrated intervals, int32 biases. Conv always gives integers (without a
 * QuantizeLinear behind it, it does not fuse); MatMul and Gemm give floats unless integers are wanted.
 * Relu and Clip vanish into saturation; hard-swish runs on integers: the convolution saturates where the gate closes,
 * and the gate is a Clip of the same integers, read at another scale. Whatever has no integer kernel, or stands alone
 * between floats, stays as it is, and its reason is noted.
 * @throws {CompilerError} `compiler/calibration` where no `calibrate` pass came before
 */
export const quantizeInt8Static = definePass({
  name: 'quantize-int8-static',
  stage: 'convert',
  options: staticOptions,
  async run(graph, context, options) {
    const { calibration } = context;
    if (!calibration)
      throw new CompilerError('compiler/calibration', 'static int8 needs calibration data', {
        hint: 'give --data, or use --activations dynamic',
      });
    const inFloat = await layersInFloat(graph, { ...context, calibration }, options, (model, floats) => {
      convertGraph(model.graph, { ...context, calibration, note: () => undefined }, options, floats);
    });
    convertGraph(graph, { ...context, calibration }, options, inFloat);
    return graph;
  },
});

/** The conversion itself, with some nodes left in float: first outputs, and why. */
function convertGraph(
  graph: Graph,
  { note, calibration, board }: Pick<PassContext, 'note' | 'board'> & { readonly calibration: Calibration },
  options: StaticOptions,
  inFloat: ReadonlyMap<string, InFloat>,
): void {
  const isObserved = (value: string) => rangeOf(graph, value, calibration, options) !== undefined;
  const plan = planInt8(graph, { ...options, inFloat, isObserved });
  for (const node of graph.nodes) {
    const reason = plan.reasons.get(node);
    if (reason !== undefined && !isBookkeeping(node)) note(node, reason, 'float');
  }
  const range =
    options.weightRange === 'auto' ? (board && board.boardClass !== 'x64' ? 'full' : 'pairs') : options.weightRange;
  const work: Work = {
    graph,
    plan,
    calibration,
    options,
    range,
    ranks: inferTypes(graph),
    forms: new Forms(graph, options.activations),
    entries: new Set(),
  };
  for (const node of Array.from(graph.nodes)) {
    const role = plan.roles.get(node);
    if (!role) continue;
    note(node, describe(role), 'quantized');
    convert(work, node, role);
  }
  connectFloats(work);
  quantizeSooner(graph);
  const unseen = [...graph.walk()].filter(
    (node) => node.graph !== graph || isRecurrent(node) || spectrumReason(node) !== undefined,
  );
  convertDynamically(unseen, { note, full: range === 'full', storeConv: true, exclude: options.exclude });
  storeTables(graph, { note, exclude: options.exclude });
  graph.removeDead();
}

interface Work {
  readonly graph: Graph;
  readonly plan: Plan;
  readonly calibration: Calibration;
  readonly options: StaticOptions;
  readonly range: WeightRange;
  /** Types of the float graph. */
  readonly ranks: ReadonlyMap<string, ValueType>;
  readonly forms: Forms;
  /** Float values that were quantized for an integer reader; their float readers keep reading the float. */
  readonly entries: Set<string>;
}

function isBookkeeping(node: Node): boolean {
  return (
    ['Constant', 'Shape', 'Cast', 'Identity', 'Gather', 'Concat', 'Slice'].includes(node.opType) &&
    !node.graph.isOutput(node.outputs[0] ?? '')
  );
}

function describe(role: Role): string {
  switch (role.kind) {
    case 'core':
      return 'int8 weights, uint8 activations';
    case 'stored':
      return `${role.weights} weights, float arithmetic: ${role.why}`;
    case 'saturate':
      return 'vanished: the integers before it saturate';
    case 'gate':
      return 'the same integers, cut and read at another scale';
    case 'reread':
      return 'vanished: the same integers, read at another scale';
    case 'move':
      return 'moves integers';
    case 'compute':
      return 'an integer kernel between quantized nodes';
  }
}

function convert(work: Work, node: Node, role: Role): void {
  const { graph, forms, range } = work;
  const [output = ''] = node.outputs;
  switch (role.kind) {
    case 'core': {
      const input = inputForm(work, node.inputs[0] ?? '');
      node.setInput(0, forms.read(input));
      quantizeWeights(role.linear, input, { range, perChannel: work.options.perChannel });
      const wanted = graph.consumers(output).some((reader) => onIntegers(work.plan.roles.get(reader)));
      if (node.opType === 'Conv' || wanted) quantizeOutput(work, node);
      else if (node.opType === 'MatMul') shieldSum(work, node);
      return;
    }
    case 'stored': {
      const form = forms.get(node.inputs[0] ?? '');
      if (form) node.setInput(0, forms.read(form));
      if (role.weights === 'int8') storeWeights(role.linear);
      else storeHalves(role.linear);
      return;
    }
    case 'compute':
      for (const [index, name] of node.inputs.entries()) node.setInput(index, forms.read(inputForm(work, name)));
      quantizeOutput(work, node);
      return;
    case 'saturate': {
      const form = inputForm(work, node.inputs.find((name) => !graph.constant(name)) ?? '');
      graph.removeNode(node);
      forms.set(output, form);
      return;
    }
    case 'reread': {
      const index = node.inputs.findIndex((name) => !graph.constant(name));
      const form = inputForm(work, node.inputs[index] ?? '');
      const scale = Math.fround(form.scale * role.scale);
      const exact = form.zeroPoint - role.shift / scale;
      const zeroPoint = Math.max(0, Math.min(255, Math.round(exact)));
      graph.removeNode(node);
      forms.set(output, { ...form, scale, zeroPoint, rest: form.rest * role.scale + (zeroPoint - exact) * scale });
      return;
    }
    case 'gate':
      convertGate(work, node, role.slope);
      return;
    case 'move': {
      const form = inputForm(work, node.inputs[0] ?? '');
      const q = graph.uniqueName(`${output}_q`);
      node.setInput(0, form.q);
      node.setOutput(0, q);
      forms.set(output, { ...form, q, made: node });
      return;
    }
  }
}

/**
 * ONNX Runtime makes a float Gemm of a MatMul and the vector added to it, where shapes are fixed, before it looks for
 * integers (MatMulAddFusion). It takes no constant of three dimensions: the sum gets one.
 */
function shieldSum({ graph, ranks }: Work, node: Node): void {
  const add = soleReader(graph, node.outputs[0] ?? '');
  const sum = add?.opType === 'Add' ? withConstant(add) : undefined;
  const rank = ranks.get(node.outputs[0] ?? '')?.dims?.length ?? 0;
  if (!add || !sum || rank < 3 || sum.constant.dims.length > 2) return;
  const { dims, dtype } = sum.constant;
  setConstant(add, sum.constantIndex, {
    dtype,
    dims: [...Array(3 - dims.length).fill(1), ...dims],
    bytes: sum.constant.bytes(),
  });
}

/** The gate is `slope · (x + closed)`, cut at 1: x's own integers at scale `slope · s`, cut at twice x's zero point. */
function convertGate({ graph, forms }: Work, node: Node, slope: number): void {
  const [x = ''] = node.inputs;
  const [output = ''] = node.outputs;
  const form = forms.get(x);
  if (!form) throw new CompilerError('compiler/graph', `no integers for the gate ${output}`, { where: node.name });
  const top = 2 * form.zeroPoint;
  const scale = Math.fround(1 / top);
  const alone = graph.consumers(x).filter((reader) => reader.opType !== 'QuantizeLinear').length === 1;
  if (Math.abs(slope * form.scale * top - 1) > 1e-3)
    throw new CompilerError('compiler/graph', `the gate ${output} opens off its step`, { where: node.name });
  if (alone && top >= 254) {
    // All of x's interval is the gate's: at most one step (1/254) is left over at the top.
    graph.removeNode(node);
    forms.set(output, { ...form, scale, zeroPoint: 0, rest: 0 });
    return;
  }
  const q = graph.uniqueName(`${output}_q`);
  const made = graph.addNode({ opType: 'Clip', inputs: [form.q, '', forms.zero(top)], outputs: [q] }, { before: node });
  graph.removeNode(node);
  forms.set(output, { q, scale, zeroPoint: 0, rest: 0, made });
}

function inputForm(work: Work, value: string) {
  const known = work.forms.get(value);
  if (known) return known;
  const form = work.forms.quantize(value, interval(work, value));
  work.forms.set(value, form);
  work.entries.add(value);
  return form;
}

function quantizeOutput(work: Work, node: Node): void {
  const { graph, forms } = work;
  const [output = ''] = node.outputs;
  const range = interval(work, output);
  let raw = output;
  if (graph.isOutput(output)) {
    // The graph's own name goes to the reading of the integers.
    raw = graph.uniqueName(`${output}_raw`);
    node.setOutput(0, raw);
  }
  forms.set(output, forms.quantize(raw, range, output));
}

function interval({ graph, plan, calibration, options }: Work, value: string) {
  return intervalOf(graph, value, plan.roles, calibration, options);
}

/** Gives every float reader of integers a float reading; `Shape` takes the integers as they are. */
function connectFloats({ graph, plan, forms, entries }: Work): void {
  for (const [value, form] of Array.from(forms.entries())) {
    if (entries.has(value)) continue;
    for (const reader of Array.from(graph.consumers(value))) {
      if (plan.roles.has(reader) || reader === form.made) continue;
      const shapeOnly = reader.opType === 'Shape' || reader.opType === 'Size';
      const source = shapeOnly ? form.q : forms.read(form);
      for (const [index, name] of reader.inputs.entries()) if (name === value) reader.setInput(index, source);
    }
    if (graph.isOutput(value)) forms.addReading(form, value);
  }
}
