import { type Fact, factOf, Op, type Rules } from './op.ts';
import { elementwise } from './elementwise.ts';
import { layout } from './layout.ts';
import { products } from './products.ts';
import { sources } from './sources.ts';
import { windows } from './windows.ts';
import type { Dim, Graph, Node, ValueType } from '../types.ts';

/** Every operator's rule, by name. Names do not clash between the domains that are known here ('' and com.microsoft). */
const rules: ReadonlyMap<string, Rules[string]> = new Map(
  [elementwise, products, windows, layout, sources].flatMap((table) => Object.entries(table)),
);
const knownDomains: ReadonlySet<string> = new Set(['', 'com.microsoft']);

/**
 * Types of the graph's values and of those in its bodies, as far as operators' rules, the declared inputs and outputs
 * and the file's own notes tell them. A dimension that is not known is undefined; so is an operator's that has no rule.
 * One pass over the nodes, which must stand in their order. Where two bodies use one name for different types, it is left out.
 */
export function inferTypes(graph: Graph): ReadonlyMap<string, ValueType> {
  const types = new Map<string, ValueType>();
  const clashes = new Set<string>();
  const root = outermost(graph);
  inferGraph(root, undefined, [], (owner, name, { dtype, dims }) => {
    if (dtype === undefined) return;
    const before = types.get(name);
    if (owner === root) clashes.delete(name);
    else if (before !== undefined && !sameType(before, { dtype, dims })) clashes.add(name);
    // The main graph's names are reported last, and win.
    types.set(name, { dtype, dims });
  });
  for (const name of clashes) types.delete(name);
  return types;
}

function outermost(graph: Graph): Graph {
  return graph.owner === undefined ? graph : outermost(graph.owner.graph);
}

interface Scope {
  readonly facts: Map<string, Fact>;
  readonly outer: Scope | undefined;
}

type Report = (owner: Graph, name: string, fact: Fact) => void;

/** Facts of the graph's outputs. Every fact of it is reported once. */
function inferGraph(
  graph: Graph,
  outer: Scope | undefined,
  inputs: readonly (Fact | undefined)[],
  report: Report,
): readonly (Fact | undefined)[] {
  const scope: Scope = { facts: new Map(), outer };
  const declared = new Map(graph.valueInfos.map(({ name, type }) => [name, type]));
  for (const { name, type } of graph.outputs) declared.set(name, type);
  for (const [i, { name, type }] of graph.inputs.entries()) setFact(scope, name, refine(inputs[i], type));
  // An input of the same name may be given another value of that type, from IR version 4 on.
  for (const tensor of graph.initializers.values())
    if (graph.constant(tensor.name) !== undefined || !graph.isInput(tensor.name))
      setFact(scope, tensor.name, factOf(tensor));
  for (const node of graph.nodes) {
    const facts = inferNode(node, scope, report);
    for (const [i, name] of node.outputs.entries()) setFact(scope, name, refine(facts[i], declared.get(name)));
  }
  for (const [name, fact] of scope.facts) report(graph, name, fact);
  return graph.outputs.map(({ name, type }) => findFact(scope, name) ?? type);
}

function inferNode(node: Node, scope: Scope, report: Report): readonly (Fact | undefined)[] {
  const version = node.graph.model.opset.get(node.domain) ?? 0;
  const inputs = node.inputs.map((name) => findFact(scope, name));
  const visited = new Set<Graph>();
  const inferBody: Op['inferBody'] = (body, facts) => {
    visited.add(body);
    return inferGraph(body, scope, facts, report);
  };
  const rule = knownDomains.has(node.domain) ? rules.get(node.opType) : undefined;
  const facts = rule?.(new Op(node, version, inputs, inferBody)) ?? [];
  for (const body of node.subgraphs) if (!visited.has(body)) inferBody(body, []);
  return facts;
}

function findFact(scope: Scope, name: string): Fact | undefined {
  for (let at: Scope | undefined = scope; at !== undefined; at = at.outer) {
    const fact = at.facts.get(name);
    if (fact !== undefined) return fact;
  }
  return undefined;
}

function setFact(scope: Scope, name: string, fact: Fact | undefined): void {
  if (name !== '' && fact !== undefined) scope.facts.set(name, fact);
}

/** What was inferred, its gaps filled by what the file declares. */
function refine(fact: Fact | undefined, declared: ValueType | undefined): Fact | undefined {
  if (fact === undefined || declared === undefined) return fact ?? declared;
  return {
    dtype: fact.dtype ?? declared.dtype,
    dims: refineDims(fact.dims, declared.dims),
    values: fact.values,
  };
}

function refineDims(
  dims: readonly Dim[] | undefined,
  declared: readonly Dim[] | undefined,
): readonly Dim[] | undefined {
  if (dims === undefined || declared === undefined) return dims ?? declared;
  if (dims.length !== declared.length) return dims;
  return dims.map((dim, i) => {
    const other = declared[i];
    return typeof dim === 'number' ? dim : typeof other === 'number' ? other : (dim ?? other);
  });
}

function sameType(a: ValueType, b: ValueType): boolean {
  return a.dtype === b.dtype && String(a.dims) === String(b.dims) && a.dims?.length === b.dims?.length;
}
