import { onnx } from '../generated/onnx.js';
import type { ExternalFolder } from './external.ts';
import { toBigInt } from './long.ts';
import type { Message } from './message.ts';
import { StoredTensor } from './tensor.ts';
import type { Attribute, Graph } from './types.ts';

const { AttributeProto } = onnx;
const Kind = AttributeProto.AttributeType;

const TENSOR = 5;
const REF_ATTR = 21;
/** All that is small: what is left out are tensors, graphs and types. */
const plainFields: ReadonlySet<number> = new Set([2, 3, 4, 7, 8, 9, 20, REF_ATTR]);

/** An attribute's value. Bodies come from the caller, which owns them. */
export function decodeAttribute(message: Message, bodies: readonly Graph[], folder: ExternalFolder): Attribute {
  const fields = message.fields();
  const plain = message.decode(AttributeProto, fields, plainFields);
  const tensor = message.child(fields, TENSOR);
  const [body] = bodies;
  // In a function's body it stands for an attribute of the caller.
  if (plain.refAttrName !== '') return other;
  switch (plain.type === Kind.UNDEFINED ? guessKind(plain, tensor, bodies) : plain.type) {
    case Kind.FLOAT:
      return { kind: 'float', value: plain.f };
    case Kind.INT:
      return { kind: 'int', value: toBigInt(plain.i) };
    case Kind.STRING:
      return { kind: 'string', value: decoder.decode(plain.s) };
    case Kind.TENSOR:
      return tensor === undefined ? other : { kind: 'tensor', value: new StoredTensor(tensor, folder) };
    case Kind.GRAPH:
      return body === undefined ? other : { kind: 'graph', value: body };
    case Kind.FLOATS:
      return { kind: 'floats', value: plain.floats };
    case Kind.INTS:
      return { kind: 'ints', value: plain.ints.map(toBigInt) };
    case Kind.STRINGS:
      return { kind: 'strings', value: plain.strings.map((bytes) => decoder.decode(bytes)) };
    case Kind.GRAPHS:
      return { kind: 'graphs', value: bodies };
    default:
      return other;
  }
}

const other = { kind: 'other', value: undefined } as const;
const decoder = new TextDecoder();

/** IR version 1 had no `type`: the field that is set says it. */
function guessKind(plain: onnx.AttributeProto, tensor: Message | undefined, bodies: readonly Graph[]): number {
  if (Object.hasOwn(plain, 'f')) return Kind.FLOAT;
  if (Object.hasOwn(plain, 'i')) return Kind.INT;
  if (Object.hasOwn(plain, 's')) return Kind.STRING;
  if (tensor !== undefined) return Kind.TENSOR;
  if (bodies.length > 0) return Kind.GRAPH;
  if (plain.floats.length > 0) return Kind.FLOATS;
  if (plain.ints.length > 0) return Kind.INTS;
  return plain.strings.length > 0 ? Kind.STRINGS : Kind.UNDEFINED;
}
