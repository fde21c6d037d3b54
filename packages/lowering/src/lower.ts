import type { Board } from '@flotilla/boards';
import {
  cloneModel,
  type Graph,
  type Model,
  type NewTensor,
  type Node,
  type Tensor,
  tensorFromFloats,
} from '@flotilla/onnx';
import { requantizeCodebooks } from './codebook.ts';
import { type CacheForm, fuseDecoder } from './decoder/fuse-decoder.ts';
import { IN_PLACE } from './decoder/group-query-attention.ts';
import { dynamicInt8Weight } from './dynamic-int8.ts';
import { describeFused, isQuantizedUnit } from './fused.ts';
import { nBitsWeight, unfitForNBits } from './nbits.ts';
import { planned, plannedInt8, plannedNBits } from './planned.ts';
import { POLICIES, type Policy } from './policy.ts';
import { dequantize, type QuantizedConstant, quantizedConstant } from './quantized-constant.ts';
import { hasOverflowingPairs } from './weight-range.ts';

/** Part of every cache key: raised whenever the same pack and board would give another graph. */
export const LOWERING_VERSION = 7;

/**
 * A model's metadata under this key say 'plain' where fused attention was found to give other numbers than its own: it
 * then stays in plain operators on every board.
 */
export const ATTENTION = 'flotilla.attention';

/**
 * A model's metadata under this key name products by 4-bit weights, as a JSON list of their nodes (or first outputs), that
 * take their activations as floats: `accuracy_level` 1 of MatMulNBits, where all others have 4, int8 activations.
 */
export const FLOAT_ACTIVATIONS = 'flotilla.float-activations';

/** In `Lowered.session`: how ONNX Runtime is to keep memory. Not an entry of its own, but two options of a session. */
export const MEMORY = 'flotilla.memory';

/** One decision: which kernel a node of the portable graph runs as, and why. */
export interface Choice {
  readonly node: string;
  readonly op: string;
  readonly kernel: string;
  readonly reason: string;
}

export interface LowerOptions {
  /**
   * What becomes of a decoder's KV cache. 'plain': attention stays in plain operators. Default 'full': fused, inputs and
   * outputs as they are. 'in-place': see README.md, "Text generation".
   */
  readonly cache?: CacheForm | 'plain' | undefined;
  /** The graph and the choices alone are asked for: constants that are made anew have a shape and no bytes. Default false. */
  readonly planOnly?: boolean | undefined;
}

export interface Lowered {
  readonly model: Model;
  /** ONNX Runtime session config entries that belong to this model, and `flotilla.memory`. */
  readonly session: { readonly [key: string]: string };
  readonly choices: readonly Choice[];
  /**
   * How far this board's own kernels were seen to be from the same graph's on x86, twice over, as a share of the
   * greatest output: what a golden tolerance that was measured on x86 must leave room for.
   */
  readonly spread: number;
}

/**
 * The portable graph as ONNX Runtime runs it fastest on one board. Weights that only DequantizeLinear reads become
 * MatMulNBits, DynamicQuantizeMatMul or GatherBlockQuantized, or floats where nothing computes with them quantized
 * (ONNX Runtime would dequantize them anew at every run). Quantize/Dequantize pairs around int8 operators stay:
 * ONNX Runtime fuses them itself. The model given is not changed.
 * @throws {LoweringError} `lowering/shape`
 */
export function lowerModel(
  model: Model,
  board: Board,
  { cache = 'full', planOnly = false }: LowerOptions = {},
): Lowered {
  const lowered = cloneModel(model);
  const policy = POLICIES[board.boardClass];
  requantizeCodebooks(lowered.graph);
  const choices: Choice[] =
    cache === 'plain' || model.metadata.get(ATTENTION) === 'plain' ? [] : [...fuseDecoder(lowered.graph, cache)];
  const fused = describeFused(lowered.graph);
  const inFloats = new Set(namedIn(model.metadata.get(FLOAT_ACTIVATIONS)));
  const dequantizers = [...lowered.graph.walk({ opType: 'DequantizeLinear' })]; // first: the graph changes below
  // ONNX Runtime cannot make sums exact of weights that are read twice: then none may need it.
  const pairSafe = dequantizers.some(isShared);
  for (const node of dequantizers) {
    const constant = quantizedConstant(node);
    if (constant) lowerReaders(new Weight(constant, { policy, inFloats, planOnly, pairSafe }), choices);
  }
  lowered.graph.removeDead();
  if (choices.some(({ kernel }) => MICROSOFT.includes(kernel))) lowered.setOpset('com.microsoft', 1);
  const exact = !planOnly && hasOverflowingPairs(lowered.graph) ? EXACT_SUMS : {};
  const all = [...choices, ...fused];
  const spread = all.some(({ kernel }) => kernel === 'MatMulNBits') ? policy.nbitsSpread : 0;
  const memory = lowered.graph.isOutput(IN_PLACE) ? FREED_AT_ONCE : {};
  return { model: lowered, session: { ...policy.session, ...exact, ...memory }, choices: all, spread };
}

/** Names in a model's metadata; what is no list of names says nothing. */
function namedIn(json = '[]'): readonly string[] {
  try {
    const names: unknown = JSON.parse(json);
    return Array.isArray(names) ? names.filter((name) => typeof name === 'string') : [];
  } catch {
    return [];
  }
}

/**
 * For the runtime: ONNX Runtime is to give memory back after every operator. A decoder reads texts of every length and
 * then token after token, and what was planned and kept for the longest (36 of 242 MB after 512 tokens at once) is of no
 * use to the others.
 */
const FREED_AT_ONCE = { [MEMORY]: 'freed-at-once' };

/**
 * Has MLAS add in 32 bits on x86 without VNNI, at a quarter of the speed (Zen 3, labels int8: 1.53 instead of 1.92 times
 * fp32); elsewhere without effect. For every class: a pack for another board then gives its own numbers on such a machine.
 */
const EXACT_SUMS = { 'session.x64quantprecision': '1' };

const MICROSOFT: readonly string[] = ['MatMulNBits', 'DynamicQuantizeMatMul', 'GatherBlockQuantized'];

function lowerReaders(weight: Weight, choices: Choice[]): void {
  const { node } = weight.constant;
  const [output = ''] = node.outputs;
  const readers = [...node.graph.consumers(output)]; // first: each stops being one below
  for (const reader of readers) {
    if (isQuantizedUnit(reader, node)) {
      if (reader.opType === 'Gemm') stateZeroPoint(weight);
      continue; // ONNX Runtime's own fusion
    }
    const behind = isTurn(reader) ? productsBehind(reader) : undefined;
    const reading = behind ? { value: reader.outputs[0] ?? '', turned: reader } : { value: output };
    for (const node of behind ?? [reader])
      choices.push({ node: node.name, op: node.opType, ...lowerReader(weight, node, reading) });
  }
}

const isShared = ({ graph, outputs: [output = ''] }: Node): boolean =>
  graph.consumers(output).filter(({ opType }) => opType === 'MatMul' || opType === 'Gemm').length > 1;

const isTurn = (node: Node): boolean => node.opType === 'Transpose' && node.ints('perm', [1, 0]).join() === '1,0';

/** Products that read the weight through a Transpose, as a head tied to an embedding does; undefined if others do too. */
function productsBehind(turn: Node): readonly Node[] | undefined {
  const [value = ''] = turn.outputs;
  const readers = turn.graph.consumers(value);
  const isProduct = ({ opType, graph, inputs }: Node): boolean =>
    opType === 'MatMul' && graph === turn.graph && inputs[1] === value && inputs[0] !== value;
  return readers.length > 0 && !turn.graph.isOutput(value) && readers.every(isProduct) ? readers : undefined;
}

/** ONNX Runtime 1.30.0 makes no QGemm of weights whose zero point is left out, though 0 is what that means. */
function stateZeroPoint({ constant }: Weight): void {
  const { node, bits } = constant;
  if (bits !== 8 || node.inputs[2]) return;
  const [, scaleName = ''] = node.inputs;
  const dims = node.graph.constant(scaleName)?.dims ?? [];
  const name = node.graph.uniqueName(`${node.inputs[0]}_zero_point`);
  const dtype = constant.tensor.dtype;
  node.graph.addInitializer(name, { dtype, dims, bytes: new Uint8Array(constant.scale.length) });
  node.setInput(2, name);
}

const FLOATS_ASKED = 'the model asks for float activations here';

type Kernel = Pick<Choice, 'kernel' | 'reason'>;

/** The value by which a node reads a weight, and the Transpose that it comes through. */
interface Reading {
  readonly value: string;
  readonly turned?: Node;
}

function lowerReader(weight: Weight, reader: Node, { value, turned }: Reading): Kernel {
  const { node } = weight.constant;
  const use = reader.graph === node.graph ? matrixUse(reader, value) : 'it stands in a body';
  const matrix = typeof use !== 'string' && turned && use.kind === 'product' ? { ...use, transposed: true } : use;
  const output = node.outputs[0] ?? '';
  if (typeof matrix === 'string') return expand(weight, turned ?? reader, output, matrix);
  const unfit =
    matrix.kind === 'gather'
      ? unfitForGather(weight.constant, reader)
      : unfitForNBits(weight.constant, matrix.transposed);
  if (unfit !== undefined) return expand(weight, turned ?? reader, output, unfit);
  if (matrix.kind === 'gather') return gatherBlocks(weight, reader);
  // Without a dot product a float product is nearly as fast as a dynamic one, and 4 bits at any level far slower.
  if (weight.isInFloats(reader) && weight.policy.weightOnly === 'dynamic-int8')
    return expand(weight, turned ?? reader, output, FLOATS_ASKED);
  return weight.policy.weightOnly === 'nbits'
    ? matMulNBits(weight, reader, matrix)
    : dynamicInt8(weight, reader, matrix);
}

interface MatrixUse {
  readonly kind: 'product';
  readonly transposed: boolean;
  /** Gemm's C; '' for none. */
  readonly bias: string;
}

/** How a node multiplies by the weight or looks rows up in it; else, in words, why it does not. */
function matrixUse(reader: Node, output: string): MatrixUse | { readonly kind: 'gather' } | string {
  if (reader.domain !== '') return `${reader.opType} computes in float`;
  if (reader.opType === 'Gather' && reader.inputs[0] === output) return { kind: 'gather' };
  if (reader.inputs[1] !== output || reader.inputs[0] === output) return `${reader.opType} computes in float`;
  if (reader.opType === 'MatMul') return { kind: 'product', transposed: false, bias: '' };
  if (reader.opType !== 'Gemm') return `${reader.opType} has no kernel for such weights`;
  const bias = reader.inputs[2] ?? '';
  const plain = reader.float('alpha', 1) === 1 && (bias === '' || reader.float('beta', 1) === 1);
  if (!plain || reader.int('transA', 0) !== 0) return 'Gemm with alpha, beta or transA';
  if (bias !== '' && reader.graph.constant(bias)?.dims.length !== 1) return 'Gemm whose C is not a constant row';
  return { kind: 'product', transposed: reader.int('transB', 0) !== 0, bias };
}

function matMulNBits(weight: Weight, reader: Node, { transposed, bias }: MatrixUse): Kernel {
  const { names, k, n, bits, block } = weight.once(`nbits ${transposed}`, () => {
    const make = weight.planOnly ? plannedNBits : nBitsWeight;
    const { q, scale, zeroPoint, ...sizes } = make(weight.constant, transposed);
    return { ...sizes, names: weight.addAll({ q, scale, ...(zeroPoint && { zero_point: zeroPoint }) }) };
  });
  const inputs = [reader.inputs[0] ?? '', ...names, ...(names.length === 2 ? [''] : [])];
  const inFloats = weight.isInFloats(reader);
  const attributes = {
    K: { int: k },
    N: { int: n },
    bits: { int: bits },
    block_size: { int: block },
    accuracy_level: { int: inFloats ? 1 : 4 },
  };
  const why = inFloats ? FLOATS_ASKED : weight.policy.weightOnlyReason;
  replaceNode(reader, 'MatMulNBits', bias === '' ? trimmed(inputs) : [...inputs, '', bias], attributes);
  return { kernel: 'MatMulNBits', reason: `${bits} bits, blocks of ${block}; ${why}` };
}

function dynamicInt8(weight: Weight, reader: Node, { transposed, bias }: MatrixUse): Kernel {
  const names = weight.once(`int8 ${transposed}`, () =>
    weight.addAll({
      ...(weight.planOnly ? plannedInt8 : dynamicInt8Weight)(weight.constant, transposed, weight.pairSafe),
    }),
  );
  const inputs = [reader.inputs[0] ?? '', ...names];
  replaceNode(reader, 'DynamicQuantizeMatMul', bias === '' ? inputs : [...inputs, '', bias], {});
  return { kernel: 'DynamicQuantizeMatMul', reason: weight.policy.weightOnlyReason };
}

function unfitForGather({ tensor, bits, axis, block }: QuantizedConstant, reader: Node): string | undefined {
  if (bits === 32 || tensor.dtype === 'uint8' || tensor.dims.length !== 2 || axis !== 1 || block === 0)
    return 'Gather reads 4 or 8 bits in blocks along the last axis only';
  if (reader.int('axis', 0) !== 0) return 'Gather along another axis than the first';
  const width = tensor.dims[1] ?? 0;
  return block < 16 || (block & (block - 1)) !== 0 || width % block !== 0
    ? `blocks of ${block} in rows of ${width}`
    : undefined;
}

/** 4 bits: no weight is made anew, the operator reads the portable form. 8 bits: it reads unsigned ones, 128 for 0. */
function gatherBlocks(weight: Weight, reader: Node): Kernel {
  const { node, tensor, block, bits } = weight.constant;
  const [q = '', scale = '', zero = ''] = node.inputs;
  const [data = ''] =
    tensor.dtype === 'int8'
      ? weight.once('rows', () =>
          weight.addAll({ rows: weight.planOnly ? planned('uint8', tensor.dims) : shifted(tensor) }),
        )
      : [q];
  const inputs = trimmed([data, reader.inputs[1] ?? '', scale, zero]);
  const attributes = {
    gather_axis: { int: 0 },
    quantize_axis: { int: 1 },
    block_size: { int: block },
    ...(bits === 8 && { bits: { int: 8 } }),
  };
  replaceNode(reader, 'GatherBlockQuantized', inputs, attributes);
  return { kernel: 'GatherBlockQuantized', reason: 'dequantizes only the rows that are looked up' };
}

function shifted(tensor: Tensor): NewTensor {
  return { dtype: 'uint8', dims: tensor.dims, bytes: tensor.bytes().map((byte) => byte ^ 128) };
}

function expand(weight: Weight, reader: Node, output: string, why: string): Kernel {
  const [name = ''] = weight.once('floats', () => weight.addAll({ floats: expanded(weight) }));
  for (const [index, input] of reader.inputs.entries()) if (input === output) reader.setInput(index, name);
  return {
    kernel: `${reader.opType} (fp32)`,
    reason: `${why}; expanded once, ONNX Runtime would dequantize at every run`,
  };
}

function expanded({ constant, planOnly }: Weight): NewTensor {
  const { dims } = constant.tensor;
  return planOnly ? planned('float32', dims) : tensorFromFloats(dims, dequantize(constant));
}

function replaceNode(
  node: Node,
  opType: string,
  inputs: readonly string[],
  attributes: { readonly [name: string]: { readonly int: number } },
): void {
  const { graph, name, outputs } = node;
  const next = graph.nodes[graph.nodes.indexOf(node) + 1];
  graph.removeNode(node);
  graph.addNode({ opType, domain: 'com.microsoft', name, inputs, outputs, attributes }, { before: next });
}

function trimmed(inputs: readonly string[]): readonly string[] {
  const last = inputs.findLastIndex((name) => name !== '');
  return inputs.slice(0, last + 1);
}

interface WeightOptions {
  readonly policy: Policy;
  readonly inFloats: ReadonlySet<string>;
  readonly planOnly: boolean;
  /** int8 weights are scaled so that sums of 16 bits cannot overflow. */
  readonly pairSafe: boolean;
}

/** One constant and the forms that were made of it: readers share them, so that tied weights stay tied. */
class Weight {
  readonly constant: QuantizedConstant;
  readonly policy: Policy;
  readonly planOnly: boolean;
  readonly pairSafe: boolean;
  private readonly inFloats: ReadonlySet<string>;
  private readonly made = new Map<string, unknown>();

  constructor(constant: QuantizedConstant, { policy, inFloats, planOnly, pairSafe }: WeightOptions) {
    this.constant = constant;
    this.policy = policy;
    this.planOnly = planOnly;
    this.pairSafe = pairSafe;
    this.inFloats = inFloats;
  }

  /** 8 bits have no fast kernel for it. */
  isInFloats({ name, outputs: [output = ''] }: Node): boolean {
    return this.constant.bits === 4 && (this.inFloats.has(name) || this.inFloats.has(output));
  }

  once<T>(form: string, make: () => T): T {
    if (!this.made.has(form)) this.made.set(form, make());
    return this.made.get(form) as T;
  }

  addAll(tensors: { readonly [suffix: string]: NewTensor }): string[] {
    const { graph }: { graph: Graph } = this.constant.node;
    return Object.entries(tensors).map(([suffix, tensor]) => {
      const name = graph.uniqueName(`${this.constant.node.inputs[0]}_${suffix}`);
      graph.addInitializer(name, tensor);
      return name;
    });
  }
}
