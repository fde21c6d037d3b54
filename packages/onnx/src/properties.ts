import { onnx } from '../generated/onnx.js';
import { codeOf, dataTypeOf } from './data-types.ts';
import { toBigInt, toLong } from './long.ts';
import { type Field } from './wire.ts';
import type { Message } from './message.ts';
import type { Dim, NewAttribute, NewGraph, NewNode, NewTensor, ValueInfo, ValueType } from './types.ts';

const Kind = onnx.AttributeProto.AttributeType;

/** What is new, as the generated classes encode it. */
export function nodeProperties(node: NewNode, name: string): onnx.NodeProto.$Properties {
  return {
    input: [...node.inputs],
    output: [...node.outputs],
    name,
    opType: node.opType,
    ...(node.domain ? { domain: node.domain } : {}),
    attribute: Object.entries(node.attributes ?? {}).map(([key, value]) => attributeProperties(key, value)),
  };
}

export function attributeProperties(name: string, value: NewAttribute): onnx.AttributeProto.$Properties {
  if ('float' in value) return { name, type: Kind.FLOAT, f: value.float };
  if ('int' in value) return { name, type: Kind.INT, i: toLong(value.int) };
  if ('string' in value) return { name, type: Kind.STRING, s: encoder.encode(value.string) };
  if ('tensor' in value) return { name, type: Kind.TENSOR, t: tensorProperties('', value.tensor) };
  if ('floats' in value) return { name, type: Kind.FLOATS, floats: [...value.floats] };
  if ('ints' in value) return { name, type: Kind.INTS, ints: value.ints.map(toLong) };
  if ('strings' in value)
    return { name, type: Kind.STRINGS, strings: value.strings.map((text) => encoder.encode(text)) };
  return { name, type: Kind.GRAPH, g: graphProperties(value.graph) };
}

const encoder = new TextEncoder();

export function graphProperties(graph: NewGraph): onnx.GraphProto.$Properties {
  return {
    name: graph.name ?? 'graph',
    node: graph.nodes.map((node) => nodeProperties(node, node.name ?? '')),
    initializer: Object.entries(graph.initializers ?? {}).map(([name, tensor]) => tensorProperties(name, tensor)),
    input: graph.inputs.map(valueInfoProperties),
    output: graph.outputs.map(valueInfoProperties),
  };
}

export function tensorProperties(name: string, { dtype, dims, bytes }: NewTensor): onnx.TensorProto.$Properties {
  return { name, dims: dims.map(toLong), dataType: codeOf(dtype), rawData: bytes };
}

export function valueInfoProperties({ name, type }: ValueInfo): onnx.ValueInfoProto.$Properties {
  if (type === undefined) return { name };
  const dims = type.dims?.map((dim) =>
    typeof dim === 'number' ? { dimValue: toLong(dim) } : typeof dim === 'string' ? { dimParam: dim } : {},
  );
  const shape = dims === undefined ? {} : { shape: { dim: dims } };
  return { name, type: { tensorType: { elemType: codeOf(type.dtype), ...shape } } };
}

/** A ValueInfoProto; its type is undefined where it is no tensor or not said. */
export function decodeValueInfo(message: Message): ValueInfo {
  const info = message.decode(onnx.ValueInfoProto, message.fields(), nameAndType);
  const tensor = info.type?.tensorType;
  const dtype = dataTypeOf(tensor?.elemType ?? 0);
  if (tensor == null || dtype === undefined) return { name: info.name, type: undefined };
  const type: ValueType = { dtype, dims: tensor.shape?.dim?.map(decodeDim) };
  return { name: info.name, type };
}

const nameAndType: ReadonlySet<Field['number']> = new Set([1, 2]);

/** A negative length is how some exporters say "unknown". */
function decodeDim(dim: onnx.TensorShapeProto.Dimension.$Properties): Dim {
  if (dim.dimValue != null) {
    const value = Number(toBigInt(dim.dimValue));
    return value >= 0 ? value : undefined;
  }
  return dim.dimParam || undefined;
}
