import { floats, type Node, type Tensor } from '@flotilla/onnx';
import { float32ToFloat16 } from '@flotilla/quant';
import { z } from 'zod';
import { definePass } from '../pass.ts';

/** The largest binary16. */
const LARGEST = 65504;

/** ONNX TensorProto.DataType. */
const FLOAT = 1;

/**
 * Stores float32 constants as float16, with a Cast back to float32 before their readers: half the file, activations and
 * arithmetic as before. ONNX Runtime casts once, at load: its CPU kernels compute in float32. A constant with a value that
 * float16 cannot hold stays as it is.
 */
export const convertFp16 = definePass({
  name: 'convert-fp16',
  stage: 'convert',
  options: z.strictObject({
    /** Constants with fewer elements stay float32: they save nothing. */
    minElements: z.int().min(1).default(1024),
  }),
  run(graph, context, { minElements }) {
    const casts = new Map<string, string>();
    for (const node of [...graph.walk()]) {
      context.signal?.throwIfAborted();
      for (const [index, value] of node.inputs.entries()) {
        const tensor = value === '' ? undefined : node.graph.constant(value);
        if (tensor?.dtype !== 'float32' || tensor.byteLength < minElements * 4) continue;
        if (tensor.dims.length === 0 || node.opType === 'Identity') continue;
        const key = node.graph.owner === undefined ? value : undefined;
        const cast = casts.get(key ?? '') ?? addHalf(node, value, tensor);
        if (cast === undefined) {
          context.note(node, 'a weight is too large for float16', 'float');
          continue;
        }
        if (key !== undefined) casts.set(key, cast);
        node.setInput(index, cast);
        context.note(node, 'fp16', 'quantized');
      }
    }
    graph.removeDead();
    return graph;
  },
});

/** Stores one constant as float16. The value that readers read now; undefined where float16 cannot hold the constant. */
export function addHalf(node: Node, value: string, tensor: Tensor): string | undefined {
  const w = floats(tensor);
  if (w.some((x) => Math.abs(x) > LARGEST)) return undefined; // NaN and infinity pass: they stay what they are
  const halves = float32ToFloat16(w);
  const { graph } = node;
  const name = graph.uniqueName(`${value}_fp16`);
  graph.addInitializer(name, { dtype: 'float16', dims: tensor.dims, bytes: new Uint8Array(halves.buffer) });
  const output = graph.uniqueName(`${value}_float`);
  graph.addNode(
    { opType: 'Cast', inputs: [name], outputs: [output], attributes: { to: { int: FLOAT } } },
    { before: node },
  );
  return output;
}
