import {
  type Graph,
  type NewAttribute,
  type NewNode,
  type Node,
  tensorFromFloats,
  tensorFromInts,
  type ValueInfo,
  type ValueType,
} from '@flotilla/onnx';
import type { Attention, Cache } from './attention.ts';
import type { CacheForm } from './fuse-decoder.ts';
import { constantInts, madeBy, transposes } from './match.ts';
import { firstHalf, matchRope, type Rope } from './rope.ts';

const INT32 = 6;
/** How many tokens a step attends to is counted in this input: the protocol of every decoder export. */
const MASK = 'attention_mask';
/**
 * An output that stands first and holds nothing: a sequence, where ONNX Runtime's binding for Node stops to copy what was
 * run. Whoever gives its own tensors for the others finds them written by then.
 */
export const IN_PLACE = 'written_in_place';

/**
 * Puts `com.microsoft.GroupQueryAttention` in the place of attentions. Its past may be longer than what is in it: lengths
 * come from the ones in `attention_mask`. The kernel knows no padding: what is valid in the past comes first.
 */
export class GroupQueryAttentions {
  private readonly graph: Graph;
  private readonly types: ReadonlyMap<string, ValueType>;
  private readonly cache: CacheForm;
  private readonly tables = new Map<string, string>();
  private readonly outputs = new Map<string, ValueInfo>();
  /** Tokens that are attended to, by row. */
  private readonly counted: string;
  private readonly total: string;
  private readonly seqlens: string;

  constructor(graph: Graph, types: ReadonlyMap<string, ValueType>, cache: CacheForm) {
    this.graph = graph;
    this.types = types;
    this.cache = cache;
    if (!graph.isInput(MASK)) {
      const type: ValueType = { dtype: 'int64', dims: ['batch_size', 'total_sequence_length'] };
      graph.setInputs([...graph.inputs, { name: MASK, type }]);
    }
    const [first] = graph.nodes;
    const add = (node: NewNode) => graph.addNode(node, { before: first }).outputs[0] ?? '';
    const op = (opType: string, inputs: string[], attributes = {}) =>
      add({ opType, inputs, outputs: [graph.uniqueName(`attention_${opType}`)], attributes });
    this.counted = op('ReduceSum', [MASK, this.ints([1])], { keepdims: { int: 0 } });
    this.seqlens = op('Cast', [op('Sub', [this.counted, this.int(1)])], { to: { int: INT32 } });
    this.total = op('Cast', [op('ReduceMax', [this.counted], { keepdims: { int: 0 } })], { to: { int: INT32 } });
  }

  /** @returns what was fused, in words */
  fuse(attention: Attention): string {
    const { graph } = this;
    const { back, key, value, scale } = attention;
    const heads = this.headsOf(attention);
    const ropes = this.ropesOf(attention);
    const query = this.flat(ropes?.q.x ?? attention.q, heads, key.size, back);
    const rows = [
      this.flat(ropes?.k.x ?? attention.k, key.heads, key.size, back),
      this.flat(attention.v, value.heads, value.size, back),
    ];
    const tables = ropes ? [this.table(ropes.q.cos), this.table(ropes.q.sin)] : ['', ''];
    const scales = key.scale === undefined ? [] : ['', '', '', key.scale, value.scale ?? ''];
    const attributes: { [name: string]: NewAttribute } = {
      num_heads: { int: heads },
      kv_num_heads: { int: key.heads },
      scale: { float: scale },
      do_rotary: { int: ropes ? 1 : 0 },
      ...(key.scale !== undefined && {
        k_quant_type: { string: 'PER_TENSOR' },
        v_quant_type: { string: 'PER_TENSOR' },
        kv_cache_bit_width: { int: 8 },
      }),
    };
    const sum = graph.uniqueName(`${back.name || 'attention'}_fused`);
    const presents = this.presentsOf([key, value]);
    const node = { opType: 'GroupQueryAttention', domain: 'com.microsoft', name: attention.node.name, attributes };
    const inputs = [query, ...rows, key.past, value.past, this.seqlens, this.total, ...tables, ...scales];
    graph.addNode({ ...node, inputs: trimmed(inputs), outputs: [sum, ...presents] }, { before: back });
    this.join(back, sum, heads, key.size);
    const positions = ropes ? 'rotary positions in it' : 'positions left outside';
    return `${heads} heads on ${key.heads}, ${positions}${key.scale === undefined ? '' : ', int8 cache'}`;
  }

  /** The graph's outputs: where a cache is written in place, it has the length of what is fed, and nothing is copied. */
  finish(): void {
    const { graph, outputs } = this;
    if (outputs.size === 0) return;
    graph.addNode({ opType: 'SequenceEmpty', inputs: [], outputs: [IN_PLACE] });
    const infos = graph.outputs.map((info) => outputs.get(info.name) ?? info);
    graph.setOutputs([{ name: IN_PLACE, type: undefined }, ...infos]);
  }

  private headsOf({ q, key }: Attention): number {
    const declared = this.types.get(q)?.dims?.[1];
    if (typeof declared === 'number') return declared;
    const split = madeBy(this.graph, this.graph.producer(q)?.inputs[0] ?? '', 'Reshape');
    const width = this.types.get(split?.inputs[0] ?? '')?.dims?.at(-1);
    return typeof width === 'number' ? width / key.size : key.heads;
  }

  private ropesOf({ q, k, key }: Attention): { readonly q: Rope; readonly k: Rope } | undefined {
    const [one, other] = [matchRope(this.graph, q), matchRope(this.graph, k)];
    if (!one || !other || one.cos !== other.cos || one.sin !== other.sin) return undefined;
    return this.graph.constant(one.cos)?.dims[1] === key.size ? { q: one, k: other } : undefined;
  }

  /** `[positions, size / 2]`, as the kernel wants its tables. */
  private table(name: string): string {
    const known = this.tables.get(name);
    if (known !== undefined) return known;
    const tensor = this.graph.constant(name);
    const half = tensor && firstHalf(tensor);
    const made = this.graph.uniqueName(`${name}_half`);
    this.graph.addInitializer(made, tensorFromFloats([tensor?.dims[0] ?? 0, (tensor?.dims[1] ?? 0) / 2], half ?? []));
    this.tables.set(name, made);
    return made;
  }

  /** `[batch, heads, length, size]` → `[batch, length, heads · size]`; what was only split and turned is taken before that. */
  private flat(value: string, heads: number, size: number, before: Node): string {
    const { graph } = this;
    const turn = graph.producer(value);
    let back = turn && transposes(turn, [0, 2, 1, 3]) ? (turn.inputs[0] ?? '') : undefined;
    const split = back === undefined ? undefined : madeBy(graph, back, 'Reshape');
    const whole = this.types.get(split?.inputs[0] ?? '')?.dims;
    if (split && whole?.length === 3 && whole[2] === heads * size) return split.inputs[0] ?? '';
    const add = (opType: string, inputs: string[], attributes = {}) =>
      graph.addNode({ opType, inputs, outputs: [graph.uniqueName(`${value}_${opType}`)], attributes }, { before })
        .outputs[0] ?? '';
    back ??= add('Transpose', [value], { perm: { ints: [0, 2, 1, 3] } });
    return add('Reshape', [back, this.ints([0, 0, heads * size])]);
  }

  /** The names of both whole caches, which come out of the kernel in the place of what joined them. */
  private presentsOf(caches: readonly Cache[]): readonly string[] {
    for (const { present, past } of caches) {
      const join = this.graph.producer(present);
      if (join) this.graph.removeNode(join);
      const type = this.graph.inputs.find(({ name }) => name === past)?.type;
      if (this.cache === 'in-place') this.outputs.set(present, { name: present, type });
    }
    return caches.map(({ present }) => present);
  }

  /** Puts the sum `[batch, length, heads · size]` where the heads' joined results were read. */
  private join(back: Node, sum: string, heads: number, size: number): void {
    const { graph } = this;
    const [joined = ''] = back.outputs;
    for (const reader of graph.consumers(joined)) {
      const target = reader.opType === 'Reshape' ? constantInts(graph, reader.inputs[1] ?? '') : undefined;
      const parts = target ?? concatenated(graph, reader.inputs[1] ?? '');
      if (reader.opType === 'Reshape' && parts?.length === 3 && [-1, heads * size].includes(parts[2] ?? 0))
        graph.replaceUses(reader.outputs[0] ?? '', sum);
      else {
        const split = graph.uniqueName(`${joined}_split`);
        const inputs = [sum, this.ints([0, 0, heads, size])];
        graph.addNode({ opType: 'Reshape', inputs, outputs: [split] }, { before: back });
        graph.replaceUses(joined, split);
        break;
      }
    }
  }

  private int(value: number): string {
    return this.constant(`scalar_${value}`, [], [value]);
  }

  private ints(values: readonly number[]): string {
    return this.constant(`ints_${values.join('_')}`, [values.length], values);
  }

  private constant(name: string, dims: readonly number[], values: readonly number[]): string {
    const known = this.tables.get(name);
    if (known !== undefined) return known;
    const made = this.graph.uniqueName(name);
    this.graph.addInitializer(made, tensorFromInts('int64', dims, values));
    this.tables.set(name, made);
    return made;
  }
}

/** The parts of a shape that is put together, each of one element; those that are not constant are undefined. */
function concatenated(graph: Graph, value: string): readonly (number | undefined)[] | undefined {
  const concat = madeBy(graph, value, 'Concat');
  return concat?.inputs.map((part) => constantInts(graph, part)?.[0]);
}

function trimmed(inputs: readonly string[]): readonly string[] {
  const last = inputs.findLastIndex((name) => name !== '');
  return inputs.slice(0, last + 1);
}
