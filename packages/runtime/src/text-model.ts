import { type DecoderIo, decoderIo } from './decoder-io.ts';
import { RuntimeError } from './errors.ts';
import { type GenerateOptions, type Generation, TextUnderWay } from './text-under-way.ts';
import type { TextTokenizer } from './tokenizer.ts';
import type { LoadedSession, TensorValue } from './types.ts';

/** Prompts of one length that run together: more fill the cache, fewer leave the matrix kernels idle. */
const BATCH = 32;

/**
 * Greedy text from a decoder with a KV cache. The cache stays in the session; only logits leave it.
 * One text (or batch) at a time: a second call waits.
 * @throws {RuntimeError} `runtime/not-text`, `runtime/tokenizer` where the tokenizer knows more tokens than the model
 */
export class TextModel {
  readonly tokenizer: TextTokenizer;
  private readonly session: LoadedSession;
  private readonly io: DecoderIo;
  private queue: Promise<unknown> = Promise.resolve();

  constructor(session: LoadedSession, tokenizer: TextTokenizer) {
    this.session = session;
    this.tokenizer = tokenizer;
    this.io = decoderIo(session);
  }

  /** @throws {RuntimeError} `runtime/context`; as `Session.run`; `signal`'s reason, between two tokens */
  async generate(prompt: string, options: GenerateOptions = {}): Promise<Generation> {
    return this.generateFromIds(this.tokenizer.encode(prompt), options);
  }

  /** The same for a prompt that is in tokens already. */
  async generateFromIds(ids: readonly number[], options: GenerateOptions = {}): Promise<Generation> {
    const [generation] = await this.generateIds([ids], options);
    return generation as Generation;
  }

  /**
   * Several prompts, answers in their order. Prompts of the same number of tokens run as one batch, without padding,
   * so that each gets the numbers that it would get alone (up to the order of float sums).
   */
  async generateAll(prompts: readonly string[], options: GenerateOptions = {}): Promise<Generation[]> {
    const encoded = prompts.map((prompt) => this.tokenizer.encode(prompt));
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
          options,
        );
        for (const [j, i] of members.entries()) results[i] = made[j] as Generation;
      }
    return results;
  }

  /** Logits `[length, vocabulary]` of a whole sequence, from an empty cache. */
  async logits(ids: readonly number[]): Promise<TensorValue & { dtype: 'float32' }> {
    return this.alone(async () => {
      const { keep: _, ...io } = this.io;
      const feeds = { ...io.emptyPast(1), ...io.stepFeeds(ids, 1, 0) };
      const { logits } = await this.session.run(feeds, { fetches: ['logits'] });
      const { data, dims } = asFloat32(logits);
      return { dtype: 'float32', dims: dims.slice(1), data };
    });
  }

  /** The prompts have one length. */
  private generateIds(prompts: readonly (readonly number[])[], options: GenerateOptions): Promise<Generation[]> {
    return this.alone(async () => {
      this.checkPrompts(prompts, options);
      const rows = prompts.map((ids) => new TextUnderWay(ids.length, this.tokenizer, options));
      try {
        await this.decode(prompts.flat(), rows, options);
      } finally {
        await this.session.forget();
      }
      return rows.map((row) => row.result());
    });
  }

  private async decode(
    prompt: readonly number[],
    rows: readonly TextUnderWay[],
    { signal }: GenerateOptions,
  ): Promise<void> {
    const { io, session } = this;
    const batch = rows.length;
    const start = performance.now();
    let ids = prompt;
    for (let past = 0; ; past += ids.length / batch, ids = rows.map((row) => row.next)) {
      signal?.throwIfAborted();
      const feeds = io.stepFeeds(ids, batch, past);
      const all = past === 0 ? { ...io.emptyPast(batch), ...feeds } : feeds;
      const { logits } = await session.run(all, { fetches: ['logits'], keep: io.keep });
      const { data, dims } = asFloat32(logits);
      const [, length = 0, size = 0] = dims;
      for (const [r, row] of rows.entries())
        row.take(argMax(data, ((r + 1) * length - 1) * size, size), performance.now() - start);
      if (rows.every((row) => row.stopReason !== undefined)) return;
    }
  }

  private checkPrompts(prompts: readonly (readonly number[])[], { maxTokens = 64 }: GenerateOptions): void {
    const length = prompts[0]?.length ?? 0;
    const limit = this.tokenizer.maxTokens ?? Number.POSITIVE_INFINITY;
    if (length === 0) throw new RuntimeError('runtime/input', 'the prompt has no tokens');
    if (length >= limit || maxTokens < 1)
      throw new RuntimeError('runtime/context', `${length} prompt tokens, the context holds ${limit}`, {
        hint: 'shorten the prompt',
      });
    const { vocabulary } = this.io;
    const wrong = vocabulary === undefined ? undefined : prompts.flat().find((id) => id >= vocabulary);
    if (wrong !== undefined)
      throw new RuntimeError('runtime/tokenizer', `token ${wrong} is outside the model's ${vocabulary} tokens`);
  }

  private alone<T>(work: () => Promise<T>): Promise<T> {
    const result = this.queue.then(work);
    this.queue = result.catch(() => {});
    return result;
  }
}

function argMax(data: Float32Array, start: number, size: number): number {
  let best = start;
  for (let i = start + 1; i < start + size; i++) if ((data[i] ?? 0) > (data[best] ?? 0)) best = i;
  return best - start;
}

function asFloat32(tensor: TensorValue | undefined): TensorValue & { dtype: 'float32' } {
  if (tensor?.dtype === 'float32') return tensor;
  throw new RuntimeError('runtime/not-text', `logits are ${tensor?.dtype}, not float32`);
}
