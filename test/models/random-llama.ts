import { type NewNode, type NewTensor, tensorFromFloats, tensorFromInts } from '@flotilla/onnx';
import { buildModel, type Model, tensorInfo } from '@flotilla/onnx';

/** Sizes of a Llama-architecture model. */
export interface LlamaSizes {
  readonly hidden: number;
  readonly layers: number;
  readonly heads: number;
  /** Heads of keys and values: each serves `heads / kvHeads` heads of queries. */
  readonly kvHeads: number;
  readonly ffn: number;
  readonly vocabulary: number;
  readonly positions: number;
}

/** 161 M parameters. The vocabulary is that of the fixture's tokenizer, so that it can be prompted. */
export const BIG_LLAMA: LlamaSizes = {
  hidden: 1024,
  layers: 14,
  heads: 16,
  kvHeads: 4,
  ffn: 2816,
  vocabulary: 2048,
  positions: 2048,
};

export const RMS_EPSILON = 1e-5;
export const ROPE_THETA = 10_000;

/** Weights by their names in a Hugging Face checkpoint, as `[outputs, inputs]`; called layer by layer, in order. */
export type LlamaWeights = (name: string, dims: readonly number[]) => Float32Array;

/** Normal numbers (norms: ones) that depend on the seed and the tensor's name alone: the same bytes everywhere. */
export function randomWeights(seed = 1): LlamaWeights {
  return (name, dims) => {
    const data = new Float32Array(dims.reduce((all, dim) => all * dim, 1));
    if (dims.length === 1) return data.fill(1);
    const next = uniform(`${seed} ${name}`);
    const deviation = 1 / Math.sqrt(dims[1] ?? 1);
    // The sum of four uniform numbers is near enough to normal, and needs no function that engines round differently.
    for (let i = 0; i < data.length; i++) data[i] = (next() + next() + next() + next() - 2) * Math.sqrt(3) * deviation;
    return data;
  };
}

/** xorshift32, seeded by a text. */
function uniform(seed: string): () => number {
  let state = 0x811c9dc5;
  for (const char of seed) state = Math.imul(state ^ (char.codePointAt(0) ?? 0), 0x01000193) >>> 0;
  state ||= 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

/**
 * A decoder with a KV cache out of plain operators, with the inputs and outputs of Optimum's exports: RMSNorm, RoPE from
 * tables, grouped attention with repeated heads, a causal mask, SwiGLU. Linear weights stand transposed, as exporters do.
 * @param keep what stands for a matrix, called with one after the other; default: the matrix
 */
export function buildLlama(
  sizes: LlamaSizes,
  weights: LlamaWeights = randomWeights(),
  keep: (name: string, matrix: NewTensor) => NewTensor = (_, matrix) => matrix,
): Model {
  const build = new LlamaBuilder(sizes, weights, keep);
  build.embedding();
  for (let layer = 0; layer < sizes.layers; layer++) build.layer(layer);
  build.head();
  return build.model();
}

class LlamaBuilder {
  private readonly sizes: LlamaSizes;
  private readonly weights: LlamaWeights;
  private readonly keep: (name: string, matrix: NewTensor) => NewTensor;
  private readonly nodes: NewNode[] = [];
  private readonly initializers: { [name: string]: NewTensor } = {};
  private readonly size: number;
  private x = '';

  constructor(sizes: LlamaSizes, weights: LlamaWeights, keep: (name: string, matrix: NewTensor) => NewTensor) {
    this.sizes = sizes;
    this.weights = weights;
    this.keep = keep;
    this.size = sizes.hidden / sizes.heads;
  }

  model(): Model {
    const { layers, kvHeads, vocabulary } = this.sizes;
    const cache = (name: string, length: string) =>
      Array.from({ length: layers }, (_, n) =>
        ['key', 'value'].map((part) =>
          tensorInfo(`${name}.${n}.${part}`, 'float32', ['batch_size', kvHeads, length, this.size]),
        ),
      ).flat();
    return buildModel({
      opset: 21,
      inputs: [
        tensorInfo('input_ids', 'int64', ['batch_size', 'sequence_length']),
        tensorInfo('attention_mask', 'int64', ['batch_size', 'total_sequence_length']),
        tensorInfo('position_ids', 'int64', ['batch_size', 'sequence_length']),
        ...cache('past_key_values', 'past_sequence_length'),
      ],
      outputs: [
        tensorInfo('logits', 'float32', ['batch_size', 'sequence_length', vocabulary]),
        ...cache('present', 'total_sequence_length'),
      ],
      nodes: this.nodes,
      initializers: this.initializers,
    });
  }

  embedding(): void {
    const { vocabulary, hidden, positions } = this.sizes;
    const table = 'model.embed_tokens.weight';
    const rows = this.weights(table, [vocabulary, hidden]);
    this.initializers[table] = this.keep(table, tensorFromFloats([vocabulary, hidden], rows));
    this.x = this.op('Gather', [table, 'input_ids'], 'embed');
    const half = this.size / 2;
    for (const [name, turn] of [['cos', Math.cos] as const, ['sin', Math.sin] as const]) {
      const data = new Float32Array(positions * this.size);
      for (let p = 0; p < positions; p++)
        for (let i = 0; i < this.size; i++) data[p * this.size + i] = turn(p * ROPE_THETA ** (-(i % half) / half));
      this.initializers[`${name}_table`] = tensorFromFloats([positions, this.size], data);
      const rows = this.op('Gather', [`${name}_table`, 'position_ids'], `${name}_rows`);
      this.op('Unsqueeze', [rows, this.ints([1])], name);
    }
    // Keys by their place among the tokens that count, queries by their position: later ones are out.
    const places = this.op(
      'Sub',
      [this.op('CumSum', ['attention_mask', this.int(1)], 'places1'), this.int(1)],
      'places',
    );
    const keys = this.op('Unsqueeze', [places, this.ints([1, 2])], 'key_places');
    const queries = this.op('Unsqueeze', ['position_ids', this.ints([1, 3])], 'query_places');
    const later = this.op('Greater', [keys, queries], 'later');
    const padding = this.op(
      'Equal',
      [this.op('Unsqueeze', ['attention_mask', this.ints([1, 2])], 'm'), this.int(0)],
      'pad',
    );
    const out = this.op('Cast', [this.op('Or', [later, padding], 'out')], 'out_f', { to: { int: 1 } });
    this.op('Mul', [out, this.float(-1e9)], 'mask');
  }

  layer(n: number): void {
    const at = `model.layers.${n}`;
    const { ffn } = this.sizes;
    const attended = this.attention(n, `${at}.self_attn`, this.norm(this.x, `${at}.input_layernorm`));
    this.x = this.op('Add', [this.x, attended], `${at}.add`);
    const h = this.norm(this.x, `${at}.post_attention_layernorm`);
    const gate = this.linear(h, `${at}.mlp.gate_proj`, ffn);
    const silu = this.op('Mul', [gate, this.op('Sigmoid', [gate], `${at}.sigmoid`)], `${at}.silu`);
    const up = this.op('Mul', [silu, this.linear(h, `${at}.mlp.up_proj`, ffn)], `${at}.up`);
    this.x = this.op('Add', [this.x, this.linear(up, `${at}.mlp.down_proj`, this.sizes.hidden, ffn)], `${at}.add2`);
  }

  head(): void {
    const h = this.norm(this.x, 'model.norm');
    this.linear(h, 'lm_head', this.sizes.vocabulary, this.sizes.hidden, 'logits');
  }

  private attention(n: number, at: string, h: string): string {
    const { heads, kvHeads } = this.sizes;
    const q = this.rope(this.heads(this.linear(h, `${at}.q_proj`, heads * this.size), heads), `${at}.q`);
    const newK = this.rope(this.heads(this.linear(h, `${at}.k_proj`, kvHeads * this.size), kvHeads), `${at}.k`);
    const newV = this.heads(this.linear(h, `${at}.v_proj`, kvHeads * this.size), kvHeads);
    const join = (part: string, rows: string) =>
      this.op('Concat', [`past_key_values.${n}.${part}`, rows], `present.${n}.${part}`, { axis: { int: 2 } });
    const k = this.repeat(join('key', newK), `${at}.repeat_k`);
    const v = this.repeat(join('value', newV), `${at}.repeat_v`);
    const turned = this.op('Transpose', [k], `${at}.kt`, { perm: { ints: [0, 1, 3, 2] } });
    const products = this.op('MatMul', [q, turned], `${at}.qk`);
    const scores = this.op('Div', [products, this.float(Math.sqrt(this.size))], `${at}.scores`);
    const shares = this.op('Softmax', [this.op('Add', [scores, 'mask'], `${at}.masked`)], `${at}.softmax`, {
      axis: { int: -1 },
    });
    const sums = this.op('MatMul', [shares, v], `${at}.sums`);
    const back = this.op('Transpose', [sums], `${at}.back`, { perm: { ints: [0, 2, 1, 3] } });
    const flat = this.op('Reshape', [back, this.ints([0, 0, -1])], `${at}.flat`);
    return this.linear(flat, `${at}.o_proj`, this.sizes.hidden, heads * this.size);
  }

  /** `[batch, length, heads · size]` → `[batch, heads, length, size]` */
  private heads(x: string, heads: number): string {
    const split = this.op('Reshape', [x, this.ints([0, 0, heads, this.size])], `${x}.split`);
    return this.op('Transpose', [split], `${x}.heads`, { perm: { ints: [0, 2, 1, 3] } });
  }

  private rope(x: string, at: string): string {
    const half = this.size / 2;
    const slice = (from: number, to: number) =>
      this.op('Slice', [x, this.ints([from]), this.ints([to]), this.ints([3])], `${at}.from${from}`);
    const [first, second] = [slice(0, half), slice(half, this.size)];
    const turned = this.op('Concat', [this.op('Neg', [second], `${at}.neg`), first], `${at}.half`, {
      axis: { int: -1 },
    });
    const [a, b] = [this.op('Mul', [x, 'cos'], `${at}.cos`), this.op('Mul', [turned, 'sin'], `${at}.sin`)];
    return this.op('Add', [a, b], `${at}.rope`);
  }

  private repeat(x: string, at: string): string {
    const { heads, kvHeads } = this.sizes;
    if (heads === kvHeads) return x;
    const shape = this.op('Shape', [x], `${at}.shape`);
    const pick = (index: number) => this.op('Gather', [shape, this.ints([index])], `${at}.dim${index}`);
    const [batch, length] = [pick(0), pick(2)];
    const dims = (parts: readonly string[], name: string) =>
      this.op('Concat', [batch, ...parts, length, this.ints([this.size])], name, { axis: { int: 0 } });
    const wide = this.op('Unsqueeze', [x, this.ints([2])], `${at}.wide`);
    const grown = dims([this.ints([kvHeads]), this.ints([heads / kvHeads])], `${at}.grown`);
    const copies = this.op('Expand', [wide, grown], `${at}.copies`);
    return this.op('Reshape', [copies, dims([this.ints([heads])], `${at}.all`)], at);
  }

  /** Written out, as exporters write it. */
  private norm(x: string, at: string): string {
    const { hidden } = this.sizes;
    const gain = `${at}.weight`;
    this.initializers[gain] = tensorFromFloats([hidden], this.weights(gain, [hidden]));
    const square = this.op('Pow', [x, this.float(2)], `${at}.square`);
    const mean = this.op('ReduceMean', [square, this.ints([-1])], `${at}.mean`, { keepdims: { int: 1 } });
    const root = this.op('Sqrt', [this.op('Add', [mean, this.float(RMS_EPSILON)], `${at}.eps`)], `${at}.root`);
    const scaled = this.op('Mul', [x, this.op('Div', [this.float(1), root], `${at}.inverse`)], `${at}.scaled`);
    return this.op('Mul', [scaled, gain], `${at}.normed`);
  }

  private linear(x: string, name: string, outputs: number, inputs = this.sizes.hidden, result = name): string {
    const w = this.weights(`${name}.weight`, [outputs, inputs]);
    const turned = new Float32Array(w.length);
    for (let o = 0; o < outputs; o++) for (let i = 0; i < inputs; i++) turned[i * outputs + o] = w[o * inputs + i] ?? 0;
    const matrix = `${name}.transposed`;
    this.initializers[matrix] = this.keep(matrix, tensorFromFloats([inputs, outputs], turned));
    return this.op('MatMul', [x, matrix], result);
  }

  private op(
    opType: string,
    inputs: readonly string[],
    output: string,
    attributes: NewNode['attributes'] = {},
  ): string {
    this.nodes.push({ opType, name: `${output}-${opType}`, inputs, outputs: [output], attributes });
    return output;
  }

  private ints(values: readonly number[]): string {
    return this.constant(`i${values.join('_')}`, tensorFromInts('int64', [values.length], values));
  }

  private int(value: number): string {
    return this.constant(`s${value}`, tensorFromInts('int64', [], [value]));
  }

  private float(value: number): string {
    return this.constant(`f${value}`, tensorFromFloats([], [value]));
  }

  private constant(name: string, tensor: NewTensor): string {
    this.initializers[name] = tensor;
    return name;
  }
}
