import { floats, type Graph, type Node, tensorFromFloats } from '@flotilla/onnx';
import { pairSafeScale, quantizeInt8 } from '@flotilla/quant';
import { z } from 'zod';
import { definePass, type PassContext } from '../pass.ts';
import { addHalf } from './convert-fp16.ts';
import { spectrumReason } from './int8/spectrum.ts';
import { storeTables } from './int8/tables.ts';
import { isRecurrent, storeRecurrent } from './int8/recurrent.ts';
import { type StoredConstants, storeWeights } from './int8/weights.ts';
import { type LinearNode, linearNode } from './linear.ts';

/**
 * Dynamic int8, in standard operators: activations are measured and rounded at run time (`DynamicQuantizeLinear`),
 * weights are int8 per output channel, sums are whole (`MatMulInteger`); ONNX Runtime makes one `DynamicQuantizeMatMul`
 * of the five nodes. Conv has no fast dynamic kernel and computes in float; `storeConv` stores its weights in int8 all the
 * same, for size alone. Lowering expands them at install; bare ONNX Runtime does at every run, and is 0.3 to 0.6 times as
 * fast. So it is with LSTM, GRU and RNN. Bodies of If, Loop and Scan are converted as the main graph is.
 * Neighbouring weights are kept from overflowing 16 bits unless the board is known to add in 32 (see `pairSafeScale`).
 */
export const quantizeInt8Dynamic = definePass({
  name: 'quantize-int8-dynamic',
  stage: 'convert',
  options: z.strictObject({
    weightRange: z.enum(['auto', 'full', 'pairs']).default('auto'),
    storeConv: z.boolean().default(true),
    exclude: z.array(z.string()).default([]),
  }),
  run(graph, { note, board }, options) {
    const full =
      options.weightRange === 'full' ||
      (options.weightRange === 'auto' && board !== undefined && board.boardClass !== 'x64');
    convertDynamically(Array.from(graph.walk()), { note, full, ...options });
    if (options.storeConv) storeTables(graph, { note, exclude: options.exclude });
    graph.removeDead();
    return graph;
  },
});

/**
 * Converts these nodes, in bodies too: products to integers, weights of the others in int8 as storage. The static
 * recipe converts so what calibration cannot see.
 */
export function convertDynamically(
  nodes: readonly Node[],
  options: Pick<PassContext, 'note'> & { full: boolean; storeConv: boolean; exclude: readonly string[] },
): void {
  const inputs = new Map<Graph, Map<string, DynamicInput>>();
  const stored: StoredConstants = new Map();
  for (const node of nodes) {
    const { note, exclude, storeConv } = options;
    const linear = linearNode(node);
    const heavy = linear !== undefined || isRecurrent(node) || ['MatMul', 'Gemm', 'Conv'].includes(node.opType);
    if (!heavy) continue;
    if (exclude.includes(node.name) || exclude.includes(node.opType)) note(node, 'excluded by the recipe', 'float');
    else if (linear && spectrumReason(node) !== undefined) storeHalf(linear, note);
    else if (linear && (node.opType === 'MatMul' || node.opType === 'Gemm')) {
      note(node, 'int8 weights, activations measured at run time', 'quantized');
      const known = inputs.get(node.graph) ?? new Map<string, DynamicInput>();
      inputs.set(node.graph, known);
      convertMatMul(node.graph, linear, options.full, known);
    } else if (!storeConv) note(node, 'no fast dynamic kernel', 'float');
    else if (linear) {
      note(node, 'computes in float, no fast dynamic kernel; weights stored in int8', 'quantized');
      storeWeights(linear, stored);
    } else if (isRecurrent(node) && storeRecurrent(node, stored))
      note(node, 'its states stay float; weights in int8', 'quantized');
    else note(node, floatReason(node), 'float');
  }
}

function floatReason(node: Node): string {
  const isConstant = node.inputs.some((value) => value !== '' && node.graph.constant(value) !== undefined);
  return isConstant ? 'its weights are not float32 constants' : 'both factors are computed at run time';
}

function storeHalf({ node, weight }: LinearNode, note: PassContext['note']): void {
  const half = addHalf(node, node.inputs[1] ?? '', weight);
  if (half !== undefined) node.setInput(1, half);
  note(
    node,
    `${half === undefined ? 'float32' : 'fp16'}: ${spectrumReason(node)}`,
    half === undefined ? 'float' : 'quantized',
  );
}

interface DynamicInput {
  readonly q: string;
  readonly scale: string;
  readonly zeroPoint: string;
}

function convertMatMul(graph: Graph, linear: LinearNode, full: boolean, inputs: Map<string, DynamicInput>): void {
  const { node } = linear;
  const [output = ''] = node.outputs;
  const name = (part: string) => graph.uniqueName(`${output}_${part}`);
  const chain = (opType: string, read: readonly string[], made = name(opType), attributes = {}): string => {
    graph.addNode({ opType, inputs: read, outputs: [made], attributes }, { before: node });
    return made;
  };
  const x = dynamicInput(graph, node, inputs);
  const { q, scale } = matrix(linear, full);
  const [wq, ws] = [name('weight_q'), name('weight_scale')];
  graph.addInitializer(wq, q);
  graph.addInitializer(ws, scale);
  const sums = chain('MatMulInteger', [x.q, wq, x.zeroPoint]);
  const sumsFloat = chain('Cast', [sums], undefined, { to: { int: 1 } });
  const factor = chain('Mul', [x.scale, ws]);
  const bias = node.opType === 'Gemm' ? (node.inputs[2] ?? '') : '';
  const before = graph.nodes[graph.nodes.indexOf(node) + 1];
  graph.removeNode(node);
  const product = bias === '' ? output : name('product');
  graph.addNode({ opType: 'Mul', inputs: [sumsFloat, factor], outputs: [product] }, { before });
  if (bias !== '') graph.addNode({ opType: 'Add', inputs: [product, bias], outputs: [output] }, { before });
}

function dynamicInput(graph: Graph, node: Node, inputs: Map<string, DynamicInput>): DynamicInput {
  const [x = ''] = node.inputs;
  const known = inputs.get(x);
  if (known) return known;
  const [q, scale, zeroPoint] = ['q', 'scale', 'zero'].map((part) => graph.uniqueName(`${x}_${part}`));
  const made = { q: q ?? '', scale: scale ?? '', zeroPoint: zeroPoint ?? '' };
  graph.addNode(
    { opType: 'DynamicQuantizeLinear', inputs: [x], outputs: [made.q, made.scale, made.zeroPoint] },
    { before: node },
  );
  inputs.set(x, made);
  return made;
}

/** `[K, N]` in int8, whichever way Gemm held it, and `[N]` scales. */
function matrix({ node, weight }: LinearNode, full: boolean) {
  const transposed = node.opType === 'Gemm' && node.int('transB', 0) !== 0;
  const [rows = 0, columns = 0] = weight.dims;
  const given = floats(weight);
  const [k, n] = transposed ? [columns, rows] : [rows, columns];
  let w = given;
  if (transposed) {
    w = new Float32Array(given.length);
    for (let i = 0; i < n; i++) for (let j = 0; j < k; j++) w[j * n + i] = given[i * k + j] ?? 0;
  }
  const { q, scale } = quantizeInt8(w, n, {
    inner: 1,
    leastScale: full ? undefined : pairSafeScale(w, n, { channelsLast: true }),
  });
  return {
    q: { dtype: 'int8' as const, dims: [k, n], bytes: new Uint8Array(q.buffer) },
    scale: tensorFromFloats([n], scale),
  };
}
