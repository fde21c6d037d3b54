import { onnx } from '../../generated/onnx.js';
import { OnnxError } from '../errors.ts';
import { toBigInt } from '../long.ts';
import { bytesFields } from '../message.ts';
import type { OnnxModel } from '../model.ts';

/** Of ModelProto. */
const FUNCTION = 25;

/** A function of the model's own, as the file has it. */
export interface OwnFunction {
  readonly name: string;
  /** Where its field begins in the model's message. */
  readonly slot: number;
  readonly proto: onnx.FunctionProto;
  /** Version per domain ('' = ai.onnx). */
  readonly opset: ReadonlyMap<string, number>;
}

/** The model's own functions by what their callers name, those that were dropped left out. @throws {OnnxError} `onnx/duplicate` */
export function functionsOf(model: OnnxModel): ReadonlyMap<string, OwnFunction> {
  const functions = new Map<string, OwnFunction>();
  for (const field of bytesFields(model.message.fields(), FUNCTION)) {
    if (model.droppedFunctions.has(field.start)) continue;
    const message = model.message.at(field);
    const proto = message.decode(onnx.FunctionProto, message.fields(), everything);
    const opset = new Map(
      proto.opsetImport.map(({ domain, version }) => [plain(domain), Number(toBigInt(version ?? 0))]),
    );
    const key = keyOf(proto.domain, proto.name, proto.overload);
    if (functions.has(key))
      throw new OnnxError('onnx/duplicate', `two functions are called "${proto.name}"`, { where: proto.name });
    functions.set(key, {
      name: proto.name,
      slot: field.start,
      proto,
      opset,
    });
  }
  return functions;
}

const everything: ReadonlySet<number> = new Set(Array.from({ length: 32 }, (_, number) => number));

/** The operators that a function's nodes name, bodies included. */
export function* callsOf(nodes: readonly onnx.NodeProto.$Properties[]): Iterable<string> {
  for (const node of nodes) {
    yield keyOf(node.domain, node.opType, node.overload);
    for (const { g, graphs } of node.attribute ?? [])
      for (const body of [...(g ? [g] : []), ...(graphs ?? [])]) yield* callsOf(body.node ?? []);
  }
}

/** A function is told by three names. `ai.onnx` is another spelling of the empty domain. */
export function keyOf(
  domain: string | null | undefined,
  name: string | null | undefined,
  overload?: string | null,
): string {
  return JSON.stringify([plain(domain), name ?? '', overload ?? '']);
}

const plain = (domain: string | null | undefined): string => (domain == null || domain === 'ai.onnx' ? '' : domain);
