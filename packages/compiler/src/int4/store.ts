import type { Graph, NewTensor } from '@flotilla/onnx';
import type { Kernels } from '../kernels/kernels.ts';
import type { BlockOptions } from './blocks-of.ts';
import type { WeightSite } from './weight-site.ts';

/** A weight's new form: the value that readers read now, and what to say of it. */
export interface Storage {
  readonly value: string;
  readonly reason: string;
}

/** Puts a weight's new form, once it is made, into the graph. */
export type Place = (graph: Graph) => Storage;

/** What of the whole compilation a weight's new form depends on: see `Kernels`. */
export function keyOf({ node, tensor, axis }: WeightSite, name: string, how: object): string {
  return JSON.stringify([bodyOf(node.graph), name, tensor.dims, axis, how]);
}

/** Which body of which node it is: two branches may have weights of one name. */
function bodyOf(graph: Graph): readonly unknown[] {
  const { owner } = graph;
  return owner ? [...bodyOf(owner.graph), owner.outputs[0], owner.subgraphs.indexOf(graph)] : [];
}

/** Makes uint4 (or int4) blocks with float32 scales, to stand behind a `DequantizeLinear` before the node. */
export async function storeInt4(
  kernels: Kernels,
  site: WeightSite,
  name: string,
  options: Omit<BlockOptions, 'rows' | 'cols' | 'inner'>,
): Promise<Place> {
  const { tensor, axis } = site;
  const { hessian, importance, cross, ...plain } = options;
  const steered = cross ? 'in turn' : hessian ? 'gptq' : importance ? 'awq' : 'no';
  const key = keyOf(site, name, { ...plain, steered });
  const [q, scale, zeroPoint] = await kernels.int4(key, tensor, axis, options);
  const attributes = { axis: { int: axis }, block_size: { int: options.block } };
  const reason = `${options.symmetric ? 'int4' : 'uint4'}, blocks of ${options.block}${how(site.node.opType, options)}`;
  return (graph) => ({ value: addDequantize(graph, site, name, { q, scale, zeroPoint, attributes }), reason });
}

function how(op: string, { hessian, importance, clip }: Pick<BlockOptions, 'hessian' | 'importance' | 'clip'>): string {
  if (hessian) return op === 'Gather' ? ', GPTQ along its readers' : ', GPTQ';
  if (importance) return ', AWQ';
  return clip === 'hqq' ? ', HQQ' : '';
}

/** Makes int8 with one scale per output channel. */
export async function storeInt8(kernels: Kernels, site: WeightSite, name: string, why: string): Promise<Place> {
  const { tensor, channelAxis } = site;
  const [q, scale] = await kernels.int8(keyOf(site, name, { int8: channelAxis }), tensor, channelAxis);
  const parts = { q, scale, zeroPoint: undefined, attributes: { axis: { int: channelAxis } } };
  return (graph) => ({ value: addDequantize(graph, site, name, parts), reason: `int8 per channel: ${why}` });
}

interface Dequantize {
  readonly q: NewTensor | undefined;
  readonly scale: NewTensor | undefined;
  readonly zeroPoint: NewTensor | undefined;
  readonly attributes: { readonly [name: string]: { readonly int: number } };
}

function addDequantize(
  graph: Graph,
  { node }: WeightSite,
  name: string,
  { q, scale, zeroPoint, attributes }: Dequantize,
): string {
  const inputs = [
    ...add(graph, `${name}_quantized`, q),
    ...add(graph, `${name}_scale`, scale),
    ...add(graph, `${name}_zero_point`, zeroPoint),
  ];
  const output = graph.uniqueName(`${name}_dequantized`);
  graph.addNode({ opType: 'DequantizeLinear', inputs, outputs: [output], attributes }, { before: node });
  return output;
}

function add(graph: Graph, prefix: string, tensor: NewTensor | undefined): readonly string[] {
  if (!tensor) return [];
  const name = graph.uniqueName(prefix);
  graph.addInitializer(name, tensor);
  return [name];
}
