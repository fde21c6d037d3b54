import { open, readFile } from 'node:fs/promises';
import { float32ToFloat16 } from '@flotilla/quant';
import { type LlamaSizes, type LlamaWeights, RMS_EPSILON, ROPE_THETA } from '../../models/random-llama.ts';

const TYPES = { uint32: 4, int32: 5, float32: 6, string: 8, array: 9 } as const;
const F32 = 0;
const Q4_0 = 2;
const Q8_0 = 8;
const ALIGNMENT = 32;

type Entry =
  | readonly ['uint32' | 'float32', string, number]
  | readonly ['string', string, string]
  | readonly ['strings', string, readonly string[]]
  | readonly ['int32s', string, readonly number[]];

interface Stored {
  readonly name: string;
  readonly dims: readonly number[];
  readonly type: number;
  readonly bytes: number;
  make(): Uint8Array;
}

/**
 * Writes a Llama as llama.cpp reads it: 4-bit blocks of 32 (`Q4_0`), the head in 8 bits as ours is, norms in float.
 * @param tokenizerPath a byte-level BPE tokenizer.json
 * @see ggml/docs/gguf.md, version 3
 */
export async function writeGguf(
  path: string,
  sizes: LlamaSizes,
  weights: LlamaWeights,
  tokenizerPath: string,
): Promise<void> {
  const tensors = tensorsOf(sizes, weights);
  const entries = [...sizeEntries(sizes), ...(await tokenizerEntries(tokenizerPath))];
  const head = new Bytes();
  head.raw(new TextEncoder().encode('GGUF'));
  head.uint32(3);
  head.uint64(tensors.length);
  head.uint64(entries.length);
  for (const entry of entries) writeEntry(head, entry);
  let offset = 0;
  for (const { name, dims, type, bytes } of tensors) {
    head.string(name);
    head.uint32(dims.length);
    for (const dim of dims.toReversed()) head.uint64(dim); // the innermost first
    head.uint32(type);
    head.uint64(offset);
    offset += padded(bytes);
  }
  const file = await open(path, 'w');
  try {
    await file.write(head.padded());
    for (const tensor of tensors) {
      const data = new Uint8Array(padded(tensor.bytes));
      data.set(tensor.make());
      await file.write(data);
    }
  } finally {
    await file.close();
  }
}

function tensorsOf({ hidden, layers, heads, kvHeads, ffn, vocabulary }: LlamaSizes, weights: LlamaWeights): Stored[] {
  const size = hidden / heads;
  const stored: Stored[] = [];
  const add = (name: string, from: string, dims: readonly number[], type: number, turn = 0) => {
    const count = dims.reduce((all, dim) => all * dim, 1);
    const bytes = type === F32 ? count * 4 : (count / 32) * (type === Q4_0 ? 18 : 34);
    const make = () => {
      const w = turn > 0 ? interleaved(weights(from, dims), turn, size) : weights(from, dims);
      if (type === F32) return new Uint8Array(w.buffer, w.byteOffset, w.byteLength);
      return type === Q4_0 ? q4(w) : q8(w);
    };
    stored.push({ name, dims, type, bytes, make });
  };
  add('token_embd.weight', 'model.embed_tokens.weight', [vocabulary, hidden], Q4_0);
  for (let n = 0; n < layers; n++) {
    const [to, from] = [`blk.${n}`, `model.layers.${n}`];
    add(`${to}.attn_norm.weight`, `${from}.input_layernorm.weight`, [hidden], F32);
    add(`${to}.attn_q.weight`, `${from}.self_attn.q_proj.weight`, [hidden, hidden], Q4_0, heads);
    add(`${to}.attn_k.weight`, `${from}.self_attn.k_proj.weight`, [kvHeads * size, hidden], Q4_0, kvHeads);
    add(`${to}.attn_v.weight`, `${from}.self_attn.v_proj.weight`, [kvHeads * size, hidden], Q4_0);
    add(`${to}.attn_output.weight`, `${from}.self_attn.o_proj.weight`, [hidden, hidden], Q4_0);
    add(`${to}.ffn_norm.weight`, `${from}.post_attention_layernorm.weight`, [hidden], F32);
    add(`${to}.ffn_gate.weight`, `${from}.mlp.gate_proj.weight`, [ffn, hidden], Q4_0);
    add(`${to}.ffn_up.weight`, `${from}.mlp.up_proj.weight`, [ffn, hidden], Q4_0);
    add(`${to}.ffn_down.weight`, `${from}.mlp.down_proj.weight`, [hidden, ffn], Q4_0);
  }
  add('output_norm.weight', 'model.norm.weight', [hidden], F32);
  add('output.weight', 'lm_head.weight', [vocabulary, hidden], Q8_0);
  return stored;
}

/** llama.cpp turns neighbours where Hugging Face turns halves: rows of every head change places. */
function interleaved(w: Float32Array, heads: number, size: number): Float32Array {
  const width = w.length / (heads * size);
  const turned = new Float32Array(w.length);
  for (let h = 0; h < heads; h++)
    for (let i = 0; i < size / 2; i++)
      for (const j of [0, 1]) {
        const from = (h * size + j * (size / 2) + i) * width;
        turned.set(w.subarray(from, from + width), (h * size + 2 * i + j) * width);
      }
  return turned;
}

/** Scale such that the greatest magnitude becomes −8; two values 16 apart share a byte. */
function q4(w: Float32Array): Uint8Array {
  const out = new Uint8Array((w.length / 32) * 18);
  for (let block = 0; block * 32 < w.length; block++) {
    const values = w.subarray(block * 32, block * 32 + 32);
    const peak = values.reduce((most, value) => (Math.abs(value) > Math.abs(most) ? value : most), 0);
    const step = peak / -8;
    putHalf(out, block * 18, step);
    const level = (i: number) => (step === 0 ? 8 : Math.min(15, Math.floor((values[i] ?? 0) / step + 8.5)));
    for (let i = 0; i < 16; i++) out[block * 18 + 2 + i] = level(i) | (level(i + 16) << 4);
  }
  return out;
}

function q8(w: Float32Array): Uint8Array {
  const out = new Uint8Array((w.length / 32) * 34);
  for (let block = 0; block * 32 < w.length; block++) {
    const values = w.subarray(block * 32, block * 32 + 32);
    const step = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0) / 127;
    putHalf(out, block * 34, step);
    for (const [i, value] of values.entries()) out[block * 34 + 2 + i] = step === 0 ? 0 : Math.round(value / step);
  }
  return out;
}

function putHalf(out: Uint8Array, at: number, value: number): void {
  const [bits = 0] = float32ToFloat16(Float32Array.of(value));
  out[at] = bits & 255;
  out[at + 1] = bits >> 8;
}

function sizeEntries({ hidden, layers, heads, kvHeads, ffn, vocabulary, positions }: LlamaSizes): Entry[] {
  return [
    ['string', 'general.architecture', 'llama'],
    ['string', 'general.name', 'random'],
    ['uint32', 'general.file_type', 2],
    ['uint32', 'llama.context_length', positions],
    ['uint32', 'llama.embedding_length', hidden],
    ['uint32', 'llama.block_count', layers],
    ['uint32', 'llama.feed_forward_length', ffn],
    ['uint32', 'llama.attention.head_count', heads],
    ['uint32', 'llama.attention.head_count_kv', kvHeads],
    ['uint32', 'llama.rope.dimension_count', hidden / heads],
    ['float32', 'llama.rope.freq_base', ROPE_THETA],
    ['float32', 'llama.attention.layer_norm_rms_epsilon', RMS_EPSILON],
    ['uint32', 'llama.vocab_size', vocabulary],
  ];
}

interface TokenizerJson {
  readonly model: {
    readonly vocab: { readonly [token: string]: number };
    readonly merges: readonly (string | readonly string[])[];
  };
  readonly added_tokens: readonly { readonly id: number; readonly content: string }[];
}

async function tokenizerEntries(path: string): Promise<Entry[]> {
  const { model, added_tokens: added } = JSON.parse(await readFile(path, 'utf8')) as TokenizerJson;
  const tokens: string[] = [];
  for (const [token, id] of Object.entries(model.vocab)) tokens[id] = token;
  for (const { id, content } of added) tokens[id] = content;
  const special = new Set(added.map(({ id }) => id));
  return [
    ['string', 'tokenizer.ggml.model', 'gpt2'],
    ['string', 'tokenizer.ggml.pre', 'gpt-2'],
    ['strings', 'tokenizer.ggml.tokens', tokens],
    ['int32s', 'tokenizer.ggml.token_type', tokens.map((_, id) => (special.has(id) ? 3 : 1))],
    [
      'strings',
      'tokenizer.ggml.merges',
      model.merges.map((merge) => (typeof merge === 'string' ? merge : merge.join(' '))),
    ],
    ['uint32', 'tokenizer.ggml.bos_token_id', 1],
    ['uint32', 'tokenizer.ggml.eos_token_id', 2],
  ];
}

function writeEntry(head: Bytes, [type, key, value]: Entry): void {
  head.string(key);
  if (type === 'strings' || type === 'int32s') {
    head.uint32(TYPES.array);
    head.uint32(type === 'strings' ? TYPES.string : TYPES.int32);
    head.uint64(value.length);
    for (const one of value)
      if (typeof one === 'string') head.string(one);
      else head.uint32(one);
    return;
  }
  head.uint32(TYPES[type]);
  if (type === 'string') head.string(value);
  else if (type === 'float32') head.float32(value);
  else head.uint32(value);
}

class Bytes {
  private readonly parts: Uint8Array[] = [];

  raw(bytes: Uint8Array): void {
    this.parts.push(bytes);
  }

  uint32(value: number): void {
    this.raw(new Uint8Array(Uint32Array.of(value).buffer));
  }

  float32(value: number): void {
    this.raw(new Uint8Array(Float32Array.of(value).buffer));
  }

  uint64(value: number): void {
    this.raw(new Uint8Array(BigUint64Array.of(BigInt(value)).buffer));
  }

  string(text: string): void {
    const bytes = new TextEncoder().encode(text);
    this.uint64(bytes.length);
    this.raw(bytes);
  }

  padded(): Uint8Array {
    const length = this.parts.reduce((sum, part) => sum + part.length, 0);
    const all = new Uint8Array(padded(length));
    let at = 0;
    for (const part of this.parts) {
      all.set(part, at);
      at += part.length;
    }
    return all;
  }
}

function padded(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}
