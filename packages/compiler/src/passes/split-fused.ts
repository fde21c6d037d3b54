import { inferTypes, type NewNode, type Node, tensorFromFloats } from '@flotilla/onnx';
import { z } from 'zod';
import { definePass } from '../pass.ts';

/**
 * ONNX Runtime's optimizer, whose saved models people hand on, writes products with constant weights as operators of its
 * own (contrib operators FusedMatMul, FusedGemm, FusedConv). They become the standard ones that every conversion knows;
 * the engine fuses them again when it loads the result. Products of two activations stay: nothing in them is stored.
 */
export const splitFused = definePass({
  name: 'split-fused',
  stage: 'rewrite',
  options: z.strictObject({}),
  run(graph) {
    const rankOf = ranks(graph);
    // Bounds of Clip, the youngest operator that is needed, are inputs from opset 11 on.
    if ((graph.model.opset.get('') ?? 0) < 11) return graph;
    for (const node of Array.from(graph.walk({ domain: 'com.microsoft' }))) {
      const chain = chainOf(node, rankOf);
      if (chain) replaceBy(node, chain);
    }
    return graph;
  },
});

type RankOf = (value: string) => number | undefined;

/** Asked for only where such an operator is met. */
function ranks(graph: Node['graph']): RankOf {
  let types: ReturnType<typeof inferTypes> | undefined;
  return (value) => (types ??= inferTypes(graph)).get(value)?.dims?.length;
}

/** One operator after the other; each but the first reads what the one before makes, then `more`. */
interface Link extends Pick<NewNode, 'opType' | 'attributes'> {
  readonly more?: readonly (string | number)[];
}

interface Chain {
  /** The product's inputs; those that are turned first, by the order of their axes. */
  readonly inputs: readonly { readonly value: string; readonly perm?: readonly number[] | undefined }[];
  readonly links: readonly Link[];
}

function chainOf(node: Node, rankOf: RankOf): Chain | undefined {
  if (node.opType === 'FusedMatMul') return matMul(node, rankOf);
  const last = node.opType === 'FusedConv' || node.opType === 'FusedGemm' ? activationOf(node) : undefined;
  if (!last) return undefined;
  const [x = '', w = '', b = '', sum = ''] = node.inputs;
  const inputs = [x, w, ...(b === '' ? [] : [b])].map((value) => ({ value }));
  const product = { opType: node.opType.slice('Fused'.length), attributes: plainAttributes(node) };
  return { inputs, links: [product, ...(sum === '' ? [] : [{ opType: 'Add', more: [sum] }]), last] };
}

/** α · op(A) · op(B), where op may exchange the last two axes. */
function matMul(node: Node, rankOf: RankOf): Chain | undefined {
  const { graph } = node;
  const isStored = node.inputs.some((value) => graph.constant(value) !== undefined);
  if (!isStored || node.int('transBatchA', 0) + node.int('transBatchB', 0) > 0) return undefined;
  const inputs = node.inputs.slice(0, 2).map((value, i) => {
    const turns = node.int(i === 0 ? 'transA' : 'transB', 0) !== 0;
    const rank = graph.constant(value)?.dims.length ?? rankOf(value);
    return {
      value,
      perm: turns && rank !== 1 ? lastTwoExchanged(rank) : undefined,
      known: !turns || rank !== undefined,
    };
  });
  if (!inputs.every(({ known }) => known)) return undefined;
  const alpha = node.float('alpha', 1);
  return { inputs, links: [{ opType: 'MatMul' }, ...(alpha === 1 ? [] : [{ opType: 'Mul', more: [alpha] }])] };
}

function lastTwoExchanged(rank = 2): readonly number[] {
  const axes = Array.from({ length: rank }, (_, axis) => axis);
  return [...axes.slice(0, -2), rank - 1, rank - 2];
}

/** FusedConv lists the activation's parameters; FusedGemm names them. Undefined for one that is not known here. */
function activationOf(node: Node): Link | undefined {
  const listed = node.attributes.get('activation_params');
  const values = listed?.kind === 'floats' ? listed.value : undefined;
  const parameter = (index: number, name: string, fallback: number): number =>
    values?.[index] ?? node.float(`activation_${name}`, fallback);
  const opType = node.string('activation', '');
  switch (opType) {
    case 'Relu':
    case 'Tanh':
    case 'Sigmoid':
      return { opType };
    case 'LeakyRelu':
      return { opType, attributes: { alpha: { float: parameter(0, 'alpha', 0.01) } } };
    case 'HardSigmoid':
      return {
        opType,
        attributes: { alpha: { float: parameter(0, 'alpha', 0.2) }, beta: { float: parameter(1, 'beta', 0.5) } },
      };
    case 'Clip':
      return values?.length === 2 ? { opType, more: values } : undefined;
    default:
      return undefined;
  }
}

function plainAttributes(node: Node): NonNullable<NewNode['attributes']> {
  const kept: [string, NonNullable<NewNode['attributes']>[string]][] = [];
  for (const [name, attribute] of node.attributes) {
    if (name.startsWith('activation')) continue;
    if (attribute.kind === 'int') kept.push([name, { int: attribute.value }]);
    else if (attribute.kind === 'ints') kept.push([name, { ints: attribute.value }]);
    else if (attribute.kind === 'float') kept.push([name, { float: attribute.value }]);
    else if (attribute.kind === 'string') kept.push([name, { string: attribute.value }]);
  }
  return Object.fromEntries(kept);
}

function replaceBy(node: Node, { inputs, links }: Chain): void {
  const { graph, name } = node;
  const [output = ''] = node.outputs;
  const next = graph.nodes[graph.nodes.indexOf(node) + 1];
  graph.removeNode(node);
  const read = inputs.map(({ value, perm }) => {
    if (!perm) return value;
    const turned = graph.uniqueName(`${value}_turned`);
    const attributes = { perm: { ints: perm } };
    graph.addNode({ opType: 'Transpose', inputs: [value], outputs: [turned], attributes }, { before: next });
    return turned;
  });
  for (const [i, { opType, attributes, more = [] }] of links.entries()) {
    const made = i === links.length - 1 ? output : graph.uniqueName(`${output}_${opType}`);
    const others = more.map((one) => (typeof one === 'string' ? one : scalar(graph, `${output}_${opType}`, one)));
    const all = i === 0 ? read : [...read.slice(0, 1), ...others];
    // The product goes on bearing the node's name: a plan may mean it.
    graph.addNode({ opType, inputs: all, outputs: [made], attributes, ...(i === 0 && { name }) }, { before: next });
    read.splice(0, read.length, made);
  }
}

function scalar(graph: Node['graph'], prefix: string, value: number): string {
  const name = graph.uniqueName(prefix);
  graph.addInitializer(name, tensorFromFloats([], [value]));
  return name;
}
