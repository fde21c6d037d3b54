import { checkFunctions } from '../check/check-functions.ts';
import { OnnxError } from '../errors.ts';
import type { GraphNode } from '../node.ts';
import { ownModel } from '../open-model.ts';
import type { Model, Node } from '../types.ts';
import { callsOf, functionsOf, keyOf, type OwnFunction } from './functions-of.ts';
import { expansionOf } from './expansion.ts';

/** Functions that call others twice, many levels deep, would fill any memory. */
const MAX_NODES = 1_000_000;

export interface InlineOptions {
  /** Whether a call may be replaced by a body of that ai.onnx version; default: where it is the model's own, or absent. */
  readonly takes?: ((opset: number | undefined) => boolean) | undefined;
  /** Told of the nodes that a call became, before calls among them are replaced, with the ai.onnx version they are of. */
  readonly added?: ((nodes: readonly Node[], opset: number | undefined) => void) | undefined;
}

/** The ai.onnx versions that the model's own functions are written in. */
export function functionOpsets(model: Model): readonly number[] {
  return [...functionsOf(ownModel(model)).values()].flatMap(({ opset }) => opset.get('') ?? []);
}

/** The operators that nodes of the model's own functions name, whether they are called or not. */
export function functionOps(model: Model): readonly string[] {
  const functions = [...functionsOf(ownModel(model)).values()];
  return functions.flatMap(({ proto }) =>
    [...callsOf(proto.node)].map((key) => (JSON.parse(key) as string[])[1] ?? ''),
  );
}

/**
 * Puts the nodes of the model's own functions in the place of their calls, in bodies and in each other too, and drops
 * the functions that nothing calls any more (ONNX IR specification, "Functions"). Values and nodes get names that no
 * other has; attributes that refer to the call's take its value, else the function's default, else go.
 * @returns the calls that stay
 * @throws {OnnxError} `onnx/cycle`, `onnx/duplicate`; `onnx/too-large` past a million nodes
 */
export function inlineFunctions(model: Model, { takes, added }: InlineOptions = {}): readonly Node[] {
  const own = ownModel(model);
  const functions = functionsOf(own);
  if (functions.size === 0) return [];
  checkFunctions(own);
  const suits = takes ?? ((opset) => opset === undefined || opset === own.opset.get(''));
  const left: Node[] = [];
  let nodes = 0;
  const open: GraphNode[] = [...own.graph.walk()].toReversed();
  for (let call = open.pop(); call !== undefined; call = open.pop()) {
    const callee = functions.get(keyOf(call.domain, call.opType, call.overload));
    if (callee === undefined) continue;
    if (!suits(callee.opset.get('')) || !agrees(callee, own.opset)) {
      left.push(call);
      continue;
    }
    for (const [domain, version] of callee.opset) if (!own.opset.has(domain)) own.setOpset(domain, version);
    const expanded = replaceCall(call, callee);
    added?.(expanded, callee.opset.get(''));
    open.push(...expanded.flatMap((node) => [...withBodies(node)]).toReversed());
    nodes += expanded.length;
    if (nodes > MAX_NODES)
      throw new OnnxError('onnx/too-large', `the model's functions come to more than ${MAX_NODES} nodes`, {
        where: callee.name,
      });
  }
  own.dropFunctions(uncalled(functions, own.graph.walk()));
  return left;
}

/** Domains other than ai.onnx have no conversions. */
function agrees({ opset }: OwnFunction, versions: ReadonlyMap<string, number>): boolean {
  return [...opset].every(([domain, version]) => domain === '' || (versions.get(domain) ?? version) === version);
}

function replaceCall(call: GraphNode, callee: OwnFunction): readonly GraphNode[] {
  const { graph, next } = call;
  const bytes = expansionOf(call, callee);
  graph.removeNode(call);
  return bytes.map((one) => graph.addEncoded(one, next));
}

function* withBodies(node: GraphNode): Iterable<GraphNode> {
  yield node;
  for (const body of node.subgraphs) yield* body.walk();
}

function uncalled(functions: ReadonlyMap<string, OwnFunction>, nodes: Iterable<GraphNode>): readonly number[] {
  const called = new Set<string>();
  const open = Array.from(nodes, ({ domain, opType, overload }) => keyOf(domain, opType, overload));
  for (let key = open.pop(); key !== undefined; key = open.pop()) {
    const callee = called.has(key) ? undefined : functions.get(key);
    if (callee === undefined) continue;
    called.add(key);
    open.push(...callsOf(callee.proto.node));
  }
  return [...functions].flatMap(([key, { slot }]) => (called.has(key) ? [] : [slot]));
}
