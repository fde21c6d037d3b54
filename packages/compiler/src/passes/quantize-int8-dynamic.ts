import { floats, type Graph, type Node, tensorFromFloats } from '@flotilla/onnx';
import { pairSafeScale, quantizeInt8 } from '@flotilla/quant';
import { z } from 'zod';
import { definePass } from '../pass.ts';
import { storeWeights } from './int8/weights.ts';
import { type LinearNode, linearNode } from './linear.ts';

/**
 * Dynamic int8, in standard operators: activations are measured and rounded at run time (`DynamicQuantizeLinear`),
 * weights are int8 per output channel, sums are whole (`MatMulInteger`); ONNX Runtime makes one `DynamicQuantizeMatMul`
 * of the five nodes. Conv has no fast dynamic kernel and computes in float; `storeConv` stores its weights in int8 all the
 * same, for size alone. Lowering expands them at install; bare ONNX Runtime does at every run, and is 0.3 to 0.6 times as
 * fast. Recurrent nodes and bodies stay as they are.
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
    const inputs = new Map<string, DynamicInput>();
    for (const node of Array.from(graph.nodes)) {
      const linear = linearNode(node);
      const heavy = linear !== undefined || ['MatMul', 'Gemm', 'Conv', 'LSTM', 'GRU', 'RNN'].includes(node.opType);
      if (!heavy) continue;
      const excluded = options.exclude.includes(node.name) || options.exclude.includes(node.opType);
      if (!linear || excluded)
        note(node, excluded ? 'excluded by the recipe' : 'its weights are not float32 constants', 'float');
      else if (node.opType === 'MatMul' || node.opType === 'Gemm') {
        note(node, 'int8 weights, activations measured at run time', 'quantized');
        convertMatMul(graph, linear, full, inputs);
      } else if (options.storeConv) {
        note(node, 'computes in float, no fast dynamic kernel; weights stored in int8', 'quantized');
        storeWeights(linear);
      } else note(node, 'no fast dynamic kernel', 'float');
    }
    graph.removeDead();
    return graph;
  },
});

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
