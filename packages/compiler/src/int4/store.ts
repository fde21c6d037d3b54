import { floats, type Graph, type NewTensor } from '@flotilla/onnx';
import { quantizeInt8 } from '@flotilla/quant';
import { type BlockOptions, blocksOf } from './blocks-of.ts';
import { sizesAt, type WeightSite } from './weight-site.ts';

/** A weight's new form: the value that readers read now, and what to say of it. */
export interface Storage {
  readonly value: string;
  readonly reason: string;
}

/** Writes uint4 (or int4) blocks with float32 scales and a `DequantizeLinear` before the node. */
export function storeInt4(
  graph: Graph,
  site: WeightSite,
  name: string,
  options: Omit<BlockOptions, 'rows' | 'cols' | 'inner'>,
): Storage {
  const { tensor, axis } = site;
  const sizes = sizesAt(tensor.dims, axis);
  const { block, symmetric } = options;
  const { q, scale, zeroPoint } = blocksOf(floats(tensor), { ...sizes, ...options });
  const scaleDims = tensor.dims.with(axis, Math.ceil(sizes.cols / block));
  const dtype = symmetric ? 'int4' : 'uint4';
  const value = addDequantize(graph, site, name, {
    q: { dtype, dims: tensor.dims, bytes: q },
    scale: { dtype: 'float32', dims: scaleDims, bytes: bytesOf(scale) },
    zeroPoint: zeroPoint && { dtype, dims: scaleDims, bytes: zeroPoint },
    attributes: { axis: { int: axis }, block_size: { int: block } },
  });
  return { value, reason: `${dtype}, blocks of ${block}${how(options)}` };
}

function how({ hessian, importance, clip }: Pick<BlockOptions, 'hessian' | 'importance' | 'clip'>): string {
  if (hessian) return ', GPTQ';
  if (importance) return ', AWQ';
  return clip === 'hqq' ? ', HQQ' : '';
}

/** Writes int8 with one scale per output channel. */
export function storeInt8(graph: Graph, site: WeightSite, name: string, why: string): Storage {
  const { tensor, channelAxis } = site;
  const { cols, inner } = sizesAt(tensor.dims, channelAxis);
  const { q, scale } = quantizeInt8(floats(tensor), cols, { inner });
  const value = addDequantize(graph, site, name, {
    q: { dtype: 'int8', dims: tensor.dims, bytes: bytesOf(q) },
    scale: { dtype: 'float32', dims: [cols], bytes: bytesOf(scale) },
    zeroPoint: undefined,
    attributes: { axis: { int: channelAxis } },
  });
  return { value, reason: `int8 per channel: ${why}` };
}

interface Dequantize {
  readonly q: NewTensor;
  readonly scale: NewTensor;
  readonly zeroPoint: NewTensor | undefined;
  readonly attributes: { readonly [name: string]: { readonly int: number } };
}

function addDequantize(
  graph: Graph,
  { node }: WeightSite,
  name: string,
  { q, scale, zeroPoint, attributes }: Dequantize,
): string {
  const inputs = [add(graph, `${name}_quantized`, q), add(graph, `${name}_scale`, scale)];
  if (zeroPoint) inputs.push(add(graph, `${name}_zero_point`, zeroPoint));
  const output = graph.uniqueName(`${name}_dequantized`);
  graph.addNode({ opType: 'DequantizeLinear', inputs, outputs: [output], attributes }, { before: node });
  return output;
}

function add(graph: Graph, prefix: string, tensor: NewTensor): string {
  const name = graph.uniqueName(prefix);
  graph.addInitializer(name, tensor);
  return name;
}

function bytesOf(view: ArrayBufferView): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}
