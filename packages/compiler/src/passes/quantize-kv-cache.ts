import { type Graph, type Node, tensorFromFloats, tensorFromInts, type ValueInfo } from '@flotilla/onnx';
import { chooseRange, observers } from '@flotilla/quant';
import { z } from 'zod';
import { observe } from '../calibrate/observe.ts';
import { CompilerError } from '../errors.ts';
import { definePass } from '../pass.ts';

/** The last step that still has a sign to give: −128 is left unused. */
const STEPS = 127;

/**
 * Keeps a decoder's keys and values as int8, one symmetric scale for each cache, from what calibration data put into it.
 * In standard ONNX: new rows are quantized before they join the cache, and the cache is dequantized where it is read;
 * `past` and `present` become int8, a quarter of the memory. Lowering turns it into the engine's own int8 cache.
 * @throws {CompilerError} `compiler/calibration` without data; `compiler/recipe` for a model without such caches
 */
export const quantizeKvCache = definePass({
  name: 'quantize-kv-cache',
  stage: 'convert',
  options: z.strictObject({
    samples: z.int().positive().default(32),
    observer: z.enum(observers).default('min-max'),
  }),
  async run(graph, context, { samples, observer }) {
    const joins = graph.nodes.filter((node) => joinsCache(node));
    if (joins.length === 0)
      throw new CompilerError('compiler/recipe', 'the model has no KV cache that could be int8', {
        hint: 'leave out --kv-cache',
      });
    if (!context.samples)
      throw new CompilerError('compiler/calibration', 'an int8 KV cache needs calibration data', {
        hint: 'give --data',
      });
    const rows = joins.map(({ inputs }) => inputs[1] ?? '');
    const seen = await observe(context.floatModel, rows, context, { most: samples });
    for (const join of joins) {
      const histogram = seen.histogram(join.inputs[1] ?? '');
      if (!histogram) throw new CompilerError('compiler/calibration', `${join.name}: nothing was observed`);
      const { min, max } = chooseRange(histogram, observer);
      const peak = Math.max(Math.abs(min), Math.abs(max));
      store(join, peak > 0 ? peak / STEPS : 1);
      context.note(join, `int8 cache, up to ${peak.toPrecision(3)}`, 'quantized');
    }
    return graph;
  },
});

/** Joins a graph input of floats `[batch, heads, past, size]` with new rows; the result is a graph output. */
function joinsCache(node: Node): boolean {
  const { graph, inputs, outputs } = node;
  const type = graph.inputs.find(({ name }) => name === inputs[0])?.type;
  const along = node.int('axis', 0);
  const isJoin = node.opType === 'Concat' && node.domain === '' && inputs.length === 2 && (along === 2 || along === -2);
  return isJoin && type?.dtype === 'float32' && type.dims?.length === 4 && graph.isOutput(outputs[0] ?? '');
}

function store(join: Node, step: number): void {
  const { graph } = join;
  const [past = '', rows = ''] = join.inputs;
  const [present = ''] = join.outputs;
  const constant = (suffix: string, tensor: Parameters<Graph['addInitializer']>[1]) => {
    const name = graph.uniqueName(`${present}_${suffix}`);
    graph.addInitializer(name, tensor);
    return name;
  };
  const scale = constant('scale', tensorFromFloats([], [step]));
  const zero = constant('zero_point', tensorFromInts('int8', [], [0]));
  const [quantized, read] = [graph.uniqueName(`${present}_rows`), graph.uniqueName(`${present}_read`)];
  const readers = graph.consumers(present);
  graph.addNode({ opType: 'QuantizeLinear', inputs: [rows, scale, zero], outputs: [quantized] }, { before: join });
  join.setInput(1, quantized);
  const next = graph.nodes[graph.nodes.indexOf(join) + 1];
  // No zero point: ONNX Runtime 1.30 moves this node onwards, and then takes an int8 one for uint8.
  graph.addNode({ opType: 'DequantizeLinear', inputs: [present, scale], outputs: [read] }, { before: next });
  for (const reader of readers)
    for (const [i, name] of reader.inputs.entries()) if (name === present) reader.setInput(i, read);
  const asInt8 = (info: ValueInfo): ValueInfo =>
    [past, present].includes(info.name) && info.type ? { ...info, type: { ...info.type, dtype: 'int8' } } : info;
  graph.setInputs(graph.inputs.map(asInt8));
  graph.setOutputs(graph.outputs.map(asInt8));
}
