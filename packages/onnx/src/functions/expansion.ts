import { onnx } from '../../generated/onnx.js';
import type { GraphNode } from '../node.ts';
import type { OwnFunction } from './functions-of.ts';

/** What is known at one place of a function's body. */
interface Scope {
  /** What a name of the function is called in the model; bodies have scopes of their own. */
  readonly names: ReadonlyMap<string, string>;
  /** The call's attributes, and the function's defaults for those it leaves out. */
  readonly given: ReadonlyMap<string, onnx.AttributeProto.$Properties>;
  /** A name like that one, which nothing in the model has. */
  readonly fresh: (name: string) => string;
}

/** The nodes that a call stands for, encoded, under the model's names. */
export function expansionOf(call: GraphNode, { proto, name }: OwnFunction): readonly Uint8Array[] {
  const prefix = call.name || call.outputs.find((output) => output !== '') || name;
  const fresh = (inner: string): string => call.graph.uniqueName(`${prefix}/${inner}`);
  const names = new Map<string, string>();
  for (const [i, formal] of proto.input.entries()) names.set(formal, call.inputs[i] ?? '');
  const handed: (readonly [string, string])[] = [];
  for (const [i, formal] of proto.output.entries()) {
    const actual = call.outputs[i] ?? '';
    // An output that is an input, or stands twice, is a copy.
    if (!names.has(formal)) names.set(formal, actual === '' ? fresh(formal) : actual);
    else if (actual !== '') handed.push([formal, actual]);
  }
  const scope: Scope = { names: defining(proto.node, names, fresh), given: attributesOf(call, proto), fresh };
  const copies = handed.map(([from, to]) => ({
    opType: 'Identity',
    name: fresh('Identity'),
    input: [scope.names.get(from) ?? from],
    output: [to],
  }));
  const nodes = [...proto.node.map((node) => nodeIn(node, scope)), ...copies];
  return nodes.map((node) => onnx.NodeProto.encode(node).finish());
}

function attributesOf(call: GraphNode, proto: onnx.FunctionProto): Scope['given'] {
  const given = new Map(proto.attributeProto.map((one) => [one.name ?? '', one]));
  for (const [name, bytes] of call.encodedAttributes()) given.set(name, onnx.AttributeProto.decode(bytes));
  return given;
}

/** Those names, and new ones for what the nodes make. */
function defining(
  nodes: readonly onnx.NodeProto.$Properties[],
  outer: ReadonlyMap<string, string>,
  fresh: Scope['fresh'],
): ReadonlyMap<string, string> {
  const names = new Map(outer);
  const isNew = (value: string): boolean => value !== '' && !names.has(value);
  for (const { output } of nodes) for (const value of output ?? []) if (isNew(value)) names.set(value, fresh(value));
  return names;
}

function nodeIn(node: onnx.NodeProto.$Properties, scope: Scope): onnx.NodeProto.$Properties {
  return {
    ...node,
    name: scope.fresh(node.name || (node.opType ?? '')),
    input: (node.input ?? []).map((value) => scope.names.get(value) ?? value),
    output: (node.output ?? []).map((value) => scope.names.get(value) ?? value),
    attribute: (node.attribute ?? []).flatMap((one) => attributeIn(one, scope)),
  };
}

/** None where it refers to an attribute that the call does not give and the function has no default for. */
function attributeIn(attribute: onnx.AttributeProto.$Properties, scope: Scope): onnx.AttributeProto.$Properties[] {
  const { name, refAttrName, g, graphs } = attribute;
  if (refAttrName) {
    const given = scope.given.get(refAttrName);
    // Bodies that the call gives read the caller's names: they stay as they are.
    return given === undefined ? [] : [{ ...given, name: name ?? '' }];
  }
  if (!g && !graphs?.length) return [attribute];
  return [
    {
      ...attribute,
      ...(g && { g: bodyIn(g, scope) }),
      ...(graphs && { graphs: graphs.map((body) => bodyIn(body, scope)) }),
    },
  ];
}

/** A body's own names are made new too: two expansions of one function must not share them. */
function bodyIn(body: onnx.GraphProto.$Properties, outer: Scope): onnx.GraphProto.$Properties {
  const inner = new Map(outer.names);
  const own = (value: string | null | undefined): void => {
    if (value) inner.set(value, outer.fresh(value));
  };
  for (const { name } of body.input ?? []) own(name);
  for (const { name } of body.initializer ?? []) if (!body.input?.some((one) => one.name === name)) own(name);
  for (const { values } of body.sparseInitializer ?? []) own(values?.name);
  for (const { output } of body.node ?? []) for (const value of output ?? []) own(value);
  const renamed = <T extends { name?: string | null }>(one: T): T => ({
    ...one,
    name: inner.get(one.name ?? '') ?? one.name ?? '',
  });
  const scope: Scope = { ...outer, names: inner };
  return {
    ...body,
    input: (body.input ?? []).map(renamed),
    output: (body.output ?? []).map(renamed),
    valueInfo: (body.valueInfo ?? []).map(renamed),
    initializer: (body.initializer ?? []).map(renamed),
    sparseInitializer: (body.sparseInitializer ?? []).map((one) => ({
      ...one,
      ...(one.values && { values: renamed(one.values) }),
    })),
    quantizationAnnotation: [],
    node: (body.node ?? []).map((node) => nodeIn(node, scope)),
  };
}
