import { randomInt } from 'node:crypto';
import type { ChatMessage } from './chat-template.ts';
import { checkAdapter } from './adapters.ts';
import { type DecoderIo, decoderIo } from './decoder-io.ts';
import { KvCache } from './kv-cache.ts';
import { RuntimeError } from './errors.ts';
import { SchemaGuides } from './grammar/schema-guides.ts';
import { checkSampling } from './sampling.ts';
import { type GenerateOptions, type Generation, TextUnderWay } from './text-under-way.ts';
import type { TextTokenizer } from './tokenizer.ts';
import type { LoadedSession, TensorValue } from './types.ts';

/** Prompts of one length that run together: more fill the cache, fewer leave the matrix kernels idle. */
const BATCH = 32;
/** Tokens of a prompt that are read at a time: between two pieces a text can be given up. */
const PIECE = 512;
/** Characters that are encoded whatever the context, and those of a token on average in the densest text there is. */
const MOST_ENCODED = 65_536;
const LONGEST_TOKEN = 32;

/**
 * Text from a decoder with a KV cache. Cache and logits stay in the session; tokens leave it.
 * One text (or batch) at a time: a second call waits.
 * @throws {RuntimeError} `runtime/not-text`, `runtime/tokenizer` where the tokenizer knows more tokens than the model
 */
export class TextModel {
  readonly tokenizer: TextTokenizer;
  private readonly session: LoadedSession;
  private readonly io: DecoderIo;
  private readonly guides: SchemaGuides;
  /** What the session's cache holds, per row. */
  private cached: number[][] = [];
  /** The adapter that it was read with. */
  private cachedWith: string | null = null;
  private queue: Promise<unknown> = Promise.resolve();

  constructor(session: LoadedSession, tokenizer: TextTokenizer) {
    this.session = session;
    this.tokenizer = tokenizer;
    this.io = decoderIo(session);
    this.guides = new SchemaGuides(tokenizer);
  }

  /** @throws {RuntimeError} `runtime/context`, `runtime/options`, `runtime/schema`; as `Session.run`; `signal`'s reason, between two tokens */
  async generate(prompt: string, options: GenerateOptions = {}): Promise<Generation> {
    return this.generateFromIds(this.encode(prompt), options);
  }

  /** The next turn of a conversation, by the model's chat template. @throws {RuntimeError} `runtime/chat`; as `generate` */
  async chat(messages: readonly ChatMessage[], options: GenerateOptions = {}): Promise<Generation> {
    return this.generateFromIds(this.tokenizer.encodeChat(messages), options);
  }

  /** The same for a prompt that is in tokens already. */
  async generateFromIds(ids: readonly number[], options: GenerateOptions = {}): Promise<Generation> {
    const [generation] = await this.generateIds([ids], options);
    return generation as Generation;
  }

  /**
   * Several prompts, answers in their order. Prompts of the same number of tokens run as one batch, without padding,
   * so that each gets the numbers that it would get alone (up to the order of float sums), and the same draws.
   */
  async generateAll(prompts: readonly string[], options: GenerateOptions = {}): Promise<Generation[]> {
    const encoded = prompts.map((prompt) => this.encode(prompt));
    const byLength = new Map<number, number[]>();
    for (const [i, ids] of encoded.entries()) {
      const group = byLength.get(ids.length) ?? [];
      group.push(i);
      byLength.set(ids.length, group);
    }
    const results: Generation[] = [];
    for (const group of byLength.values())
      for (let start = 0; start < group.length; start += BATCH) {
        const members = group.slice(start, start + BATCH);
        const made = await this.generateIds(
          members.map((i) => encoded[i] as number[]),
          { ...options, reusePrefix: options.reusePrefix ?? false }, // the order of the prompts must not count
        );
        for (const [j, i] of members.entries()) results[i] = made[j] as Generation;
      }
    return results;
  }

  /**
   * Logits `[length, vocabulary]` of a whole sequence, from an empty cache.
   * @throws {RuntimeError} `runtime/adapter`
   */
  async logits(
    ids: readonly number[],
    { adapter }: Pick<GenerateOptions, 'adapter'> = {},
  ): Promise<TensorValue & { dtype: 'float32' }> {
    return this.alone(async () => {
      const empty = new KvCache(this.io);
      empty.cut(1, 0);
      const place = { batch: 1, past: 0, lastOnly: false };
      const feeds = { ...empty.feeds(), ...this.io.stepFeeds(ids, place) };
      const { logits } = await this.session.run(feeds, { fetches: ['logits'], adapter });
      if (logits?.dtype !== 'float32')
        throw new RuntimeError('runtime/not-text', `logits are ${logits?.dtype}, not float32`);
      return { dtype: 'float32', dims: logits.dims.slice(1), data: logits.data };
    });
  }

  /** What is far too long is not even encoded. */
  private encode(prompt: string): number[] {
    const { maxTokens = Number.POSITIVE_INFINITY } = this.tokenizer;
    if (prompt.length > Math.max(MOST_ENCODED, maxTokens * LONGEST_TOKEN))
      throw new RuntimeError('runtime/context', `${prompt.length} characters, the context holds ${maxTokens} tokens`, {
        hint: 'shorten the prompt',
      });
    return this.tokenizer.encode(prompt);
  }

  /** The prompts have one length. */
  private generateIds(prompts: readonly (readonly number[])[], options: GenerateOptions): Promise<Generation[]> {
    return this.alone(async () => {
      checkOptions(options);
      this.checkPrompts(prompts);
      const { adapter = this.session.adapter } = options;
      checkAdapter(this.session.adapters, adapter);
      if (adapter !== this.cachedWith) this.cached = []; // keys and values are the adapter's, too
      this.cachedWith = adapter;
      const seed = options.seed === undefined ? randomInt(2 ** 32) : options.seed >>> 0;
      const constraint = () => (options.schema === undefined ? undefined : this.guides.begin(options.schema));
      const rows = prompts.map(
        (ids) => new TextUnderWay(ids.length, this.tokenizer, options, { seed, constraint: constraint() }),
      );
      const reuses = prompts.length === 1 && (options.reusePrefix ?? options.seed === undefined);
      const reused = reuses ? this.sharedPrefix(prompts) : 0;
      const modelMs = await this.decode(prompts, reused, rows, options);
      return rows.map((row) => row.result(reused, modelMs));
    });
  }

  /** @returns time in ONNX Runtime */
  private async decode(
    prompts: readonly (readonly number[])[],
    reused: number,
    rows: readonly TextUnderWay[],
    options: GenerateOptions,
  ): Promise<number> {
    const length = prompts[0]?.length ?? 0;
    const start = performance.now();
    let modelMs = 0;
    let past = reused;
    // Behind a cache the fused attention of ONNX Runtime 1.30 reads several tokens in one row only.
    const piece = prompts.length === 1 ? PIECE : length;
    let now = prompts.map((ids) => ids.slice(past, past + piece));
    for (;;) {
      options.signal?.throwIfAborted();
      const last = past + (now[0]?.length ?? 0) >= length;
      const step = await this.step(now, past, last ? { rows, options } : undefined);
      modelMs += step.modelMs;
      past += now[0]?.length ?? 0;
      if (last) {
        for (const [r, row] of rows.entries()) row.take(step.ids[r] ?? -1, performance.now() - start);
        if (rows.every((row) => row.stopReason !== undefined)) return modelMs;
      }
      now = last ? rows.map((row) => [row.next]) : prompts.map((ids) => ids.slice(past, past + piece));
    }
  }

  private async step(
    now: readonly (readonly number[])[],
    past: number,
    wanted: { readonly rows: readonly TextUnderWay[]; readonly options: GenerateOptions } | undefined,
  ) {
    const { temperature, topK, topP, minP, repetitionPenalty } = wanted?.options ?? {};
    const choice = wanted && {
      sampling: { temperature, topK, topP, minP, repetitionPenalty },
      draws: wanted.rows.map((row) => row.draw()),
      allowed: wanted.rows.map((row) => row.allowed()),
      endsAt: wanted.rows.some((row) => row.goesOn) ? [...this.tokenizer.eosIds] : undefined,
    };
    const rows = this.cached.length === now.length ? this.cached : now.map((): number[] => []);
    this.cached = []; // until it is known to have gone well
    const answer = await this.session.decode({
      ids: now.flat(),
      batch: now.length,
      past,
      adapter: this.cachedWith,
      choice,
    });
    for (const [r, row] of rows.entries()) {
      row.length = past; // in place: a long text is not copied at every token
      row.push(...(now[r] ?? []));
    }
    this.cached = rows;
    return answer;
  }

  /** Tokens that the cache holds of all these prompts; the last one is always read, for its logits. */
  private sharedPrefix(prompts: readonly (readonly number[])[]): number {
    if (prompts.length !== this.cached.length) return 0;
    const shared = prompts.map((ids, r) => {
      const differs = ids.findIndex((id, i) => this.cached[r]?.[i] !== id);
      return differs < 0 ? ids.length - 1 : differs;
    });
    return Math.min(...shared);
  }

  private checkPrompts(prompts: readonly (readonly number[])[]): void {
    const length = prompts[0]?.length ?? 0;
    const limit = this.tokenizer.maxTokens ?? Number.POSITIVE_INFINITY;
    if (length === 0) throw new RuntimeError('runtime/input', 'the prompt has no tokens');
    if (length >= limit)
      throw new RuntimeError('runtime/context', `${length} prompt tokens, the context holds ${limit}`, {
        hint: 'shorten the prompt',
      });
    const { vocabulary = Number.POSITIVE_INFINITY } = this.io;
    // A negative one would be counted from the vocabulary's end.
    const wrong = prompts.flat().find((id) => !Number.isSafeInteger(id) || id < 0 || id >= vocabulary);
    if (wrong !== undefined)
      throw new RuntimeError('runtime/tokenizer', `token ${wrong} is outside the model's ${vocabulary} tokens`);
  }

  private alone<T>(work: () => Promise<T>): Promise<T> {
    const result = this.queue.then(work);
    this.queue = result.catch(() => {});
    return result;
  }
}

/** @throws {RuntimeError} `runtime/options` */
function checkOptions(options: GenerateOptions): void {
  checkSampling(options);
  const { maxTokens = 1, seed = 0 } = options;
  if (!Number.isSafeInteger(maxTokens) || maxTokens < 1)
    throw new RuntimeError('runtime/options', 'maxTokens must be a whole number above 0', { where: 'maxTokens' });
  if (options.schema !== undefined && (options.stop ?? []).length > 0)
    throw new RuntimeError('runtime/options', 'a schema says itself where the text ends: leave out stop', {
      where: 'stop',
    });
  if (!Number.isSafeInteger(seed))
    throw new RuntimeError('runtime/options', 'seed must be a whole number', { where: 'seed' });
}
