import { type Graph, type NewTensor, type Node, tensorFromFloats } from '@flotilla/onnx';
import { quantizeInt8 } from '@flotilla/quant';
import { type ConstantValue, evaluateConstant } from './evaluate-constant.ts';

/** Blocks that 8-bit kernels take. */
const BLOCKS: readonly number[] = [64, 32, 16];

/**
 * NF4 and FP4 weights, spelt out as codes that look their level up in a table of 16, become int8 blocks behind a
 * DequantizeLinear, which the rest of lowering knows. The engine's own 4-bit table kernel (MatMulBnb4) expands the matrix
 * at every call; 16 even steps of int4 would lose as much again as the format did; 8 bits hold the levels to 1/254 of a
 * block's maximum. A table that no matrix product or lookup reads is expanded to floats.
 */
export function requantizeCodebooks(graph: Graph): void {
  for (const lookup of [...graph.walk({ opType: 'Gather' })]) {
    const last = isCodebook(lookup) ? endOf(lookup) : undefined;
    const value = last && evaluateConstant(graph, last.outputs[0] ?? '');
    if (!last || !value) continue;
    const [output = ''] = last.outputs;
    const axis = last.opType === 'Transpose' ? 0 : 1;
    const block = value.dims.length === 2 ? BLOCKS.find((length) => (value.dims[axis] ?? 0) % length === 0) : undefined;
    const made = block === undefined ? addFloats(graph, output, value) : addBlocks(last, value, { axis, block });
    graph.replaceUses(output, made);
  }
}

/** A table of 16 floats, looked up by 4-bit constants. */
function isCodebook(node: Node): boolean {
  if (node.domain !== '' || node.graph.owner !== undefined) return false;
  const table = node.graph.constant(node.inputs[0] ?? '');
  const cast = node.graph.producer(node.inputs[1] ?? '');
  const codes = cast?.opType === 'Cast' ? node.graph.constant(cast.inputs[0] ?? '') : undefined;
  return table?.dtype === 'float32' && table.dims.join() === '16' && codes?.dtype === 'uint4';
}

/** The node whose output is the weight: behind the product with the maxima, the Reshape, and a Transpose of two axes. */
function endOf(lookup: Node): Node | undefined {
  const reshape = soleReader(soleReader(lookup, 'Mul'), 'Reshape');
  return soleReader(reshape, 'Transpose') ?? reshape;
}

function soleReader(node: Node | undefined, opType: string): Node | undefined {
  if (!node || node.graph.isOutput(node.outputs[0] ?? '')) return undefined;
  const [reader, ...others] = node.graph.consumers(node.outputs[0] ?? '');
  return reader?.opType === opType && others.length === 0 ? reader : undefined;
}

function addFloats(graph: Graph, output: string, { dims, data }: ConstantValue): string {
  const name = graph.uniqueName(`${output}_floats`);
  graph.addInitializer(name, tensorFromFloats(dims, data));
  return name;
}

/** int8 blocks along the axis that is summed over, in the layout that the readers want. */
function addBlocks(
  last: Node,
  { dims, data }: ConstantValue,
  { axis, block }: { readonly axis: 0 | 1; readonly block: number },
): string {
  const { graph, name } = last;
  const [rows = 0, columns = 0] = dims;
  // Blocks lie in a row where the inputs come last; else they are found in the transpose, and turned back.
  const inRows = axis === 1 ? data : transpose(data, rows, columns);
  const { q, scale } = quantizeInt8(inRows, inRows.length / block);
  const blocks = (axis === 1 ? columns : rows) / block;
  const turnedQ = axis === 1 ? q : transpose(q, columns, rows);
  const turnedScale = axis === 1 ? scale : transpose(scale, columns, blocks);
  const add = (suffix: string, tensor: NewTensor): string => {
    const value = graph.uniqueName(`${last.outputs[0]}_${suffix}`);
    graph.addInitializer(value, tensor);
    return value;
  };
  const inputs = [
    add('int8', { dtype: 'int8', dims, bytes: new Uint8Array(turnedQ.buffer) }),
    add('scale', tensorFromFloats(dims.with(axis, blocks), turnedScale)),
  ];
  const output = graph.uniqueName(`${last.outputs[0]}_dequantized`);
  const attributes = { axis: { int: axis }, block_size: { int: block } };
  const before = graph.nodes[graph.nodes.indexOf(last) + 1];
  graph.addNode(
    { opType: 'DequantizeLinear', name: `${name}_int8`, inputs, outputs: [output], attributes },
    { before },
  );
  return output;
}

function transpose<T extends Float32Array | Int8Array>(values: T, rows: number, columns: number): T {
  const turned = values.slice() as T;
  for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) turned[c * rows + r] = values[r * columns + c] ?? 0;
  return turned;
}
